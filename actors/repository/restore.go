package repository

import (
	"bytes"
	"encoding/binary"
)

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
