package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Below the log each record has a checksum over its key and its value. What is here takes values
// apart that were checked.

const crcSize = 4

var (
	errChecksum = errors.New("checksum mismatch")
	errLength   = errors.New("wrong length")
	errMissing  = errors.New("record missing")
)

// openRecord returns the value, or a *CorruptError. A want below zero accepts every length.
func openRecord(key, value []byte, want int) ([]byte, error) {
	if want >= 0 && len(value) != want {
		return nil, corruptLog(key, fmt.Errorf("%w: %d bytes", errLength, len(value)))
	}
	return value, nil
}

func corruptLog(key []byte, err error) error {
	return &CorruptError{Store: "log", Key: append([]byte(nil), key...), What: describeLogKey(key), Err: err}
}

const (
	hardStateSize = 3 * 8
	replicaSize   = 8 + 1
	positionSize  = 2 * 8
)

func putHardState(dst []byte, h HardState) {
	binary.BigEndian.PutUint64(dst, h.Term)
	binary.BigEndian.PutUint64(dst[8:], h.Vote)
	binary.BigEndian.PutUint64(dst[16:], h.Commit)
}

func parseHardState(b []byte) HardState {
	return HardState{
		Term: binary.BigEndian.Uint64(b), Vote: binary.BigEndian.Uint64(b[8:]), Commit: binary.BigEndian.Uint64(b[16:]),
	}
}

func putPosition(dst []byte, p Position) {
	binary.BigEndian.PutUint64(dst, p.Index)
	binary.BigEndian.PutUint64(dst[8:], p.Term)
}

func parsePosition(b []byte) Position {
	return Position{Index: binary.BigEndian.Uint64(b), Term: binary.BigEndian.Uint64(b[8:])}
}

// chunk is one chunk's value, taken apart. Every chunk repeats the entry's header: that is
// 25 bytes in 32 KiB, and a chunk proves by itself which entry it belongs to.
type chunk struct {
	kind  uint8
	size  uint32 // of the whole entry
	term  uint64
	start uint64 // stored bytes of the group's log before this entry
	data  []byte
}

func putChunkHeader(dst []byte, c *chunk) {
	dst[0] = c.kind
	binary.BigEndian.PutUint32(dst[1:], c.size)
	binary.BigEndian.PutUint64(dst[5:], c.term)
	binary.BigEndian.PutUint64(dst[13:], c.start)
}

// parseChunk checks the value of a key against the chunk's own place.
func parseChunk(key, b []byte) (chunk, error) {
	if len(b) < chunkHeader || len(key) != entryKeySize {
		return chunk{}, corruptLog(key, errLength)
	}
	c := chunk{
		kind: b[0], size: binary.BigEndian.Uint32(b[1:]), term: binary.BigEndian.Uint64(b[5:]),
		start: binary.BigEndian.Uint64(b[13:]), data: b[chunkHeader:],
	}
	if len(c.data) != chunkLen(int(c.size), int(binary.BigEndian.Uint32(key[13:]))) {
		return chunk{}, corruptLog(key, errLength)
	}
	return c, nil
}

// chunkLen is the length of chunk n of an entry with size bytes; -1 if it has no such chunk.
func chunkLen(size, n int) int {
	if n >= chunks(size) {
		return -1
	}
	return min(chunkData, size-n*chunkData)
}
