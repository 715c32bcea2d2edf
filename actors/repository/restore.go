package repository

import (
	"bytes"
	"encoding/binary"
)

// Jump is how far a recovered or restored partition goes on behind the last index of
// its copy: none gives out as many, so that a token of before is never given again.
const Jump = 1 << 40

// floor is what the numbers given at an index lie above. With the jump that brought
// a partition to the index they go up as well, in each of its repositories, and in
// those of which only lost replicas knew: what these gave to other packets is not
// given again. Below the first jump it is nothing. It is meta.FeatureNumbers that
// keeps programs away which do not know this.
func floor(index uint64) Seq { return Seq(index &^ (Jump - 1)) }

// Anew is the only record of partition p when it begins at an index with nothing.
func Anew(p PartitionID, index uint64) (key, value []byte) {
	key, _ = PositionKeys(p)
	return key, binary.BigEndian.AppendUint64(nil, index)
}

// Moved is a record of a partition, none of whose payloads lie in the log any
// more, for a partition that goes on at another index: what is said of the log's
// position is set to that, and the replicas are forgotten; keep is false for them.
func Moved(key, value []byte, index uint64) (v []byte, keep bool) {
	if len(key) != 4 || key[2] != tableMeta {
		return value, true
	}
	switch key[3] {
	case metaApplied, metaSpilled:
		return binary.BigEndian.AppendUint64(nil, index), true
	case metaConf:
		return nil, false
	}
	return bytes.Clone(value), true
}
