package storage

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc64"
)

// Sum is what two replicas at the same applied index compare: equal sums mean the same records.
type Sum struct {
	CRC64  uint64 // ECMA, over each record's lengths, key and value, in order
	Amount        // of what was summed
}

const (
	// checksumStep is how many bytes are read between two looks at the context.
	checksumStep   = 1 << 20
	checksumBuffer = 32 << 10
)

// Checksum sums the records of r in [lower, upper) in order, but those that skip wants left out:
// what is a replica's own. A nil skip leaves out nothing. r must not change meanwhile: a snapshot,
// whose applied index the caller reads from it too. It holds few records in memory at a time, and
// ends with ctx's error soon after ctx ends.
func Checksum(ctx context.Context, r Reader, lower, upper []byte, skip func(key []byte) bool) (Sum, error) {
	s := summer{ctx: ctx, skip: skip, table: crc64.MakeTable(crc64.ECMA)}
	err := r.Scan(lower, upper, s.visit)
	s.flush()
	if s.err != nil {
		err = s.err
	}
	if err != nil {
		return Sum{}, fmt.Errorf("checksum: %w", err)
	}
	return s.sum, nil
}

type summer struct {
	ctx   context.Context //nolint:containedctx // it lives as long as one call
	skip  func(key []byte) bool
	table *crc64.Table
	sum   Sum
	buf   []byte // not summed yet: the table is fast on long stretches only
	since int    // bytes since ctx was looked at
	err   error
}

func (s *summer) visit(key, value []byte) bool {
	if s.since -= len(key) + len(value) + 1; s.since < 0 {
		s.since = checksumStep
		if s.err = s.ctx.Err(); s.err != nil {
			return false
		}
	}
	if s.skip != nil && s.skip(key) {
		return true
	}
	s.buf = binary.BigEndian.AppendUint32(s.buf, uint32(len(key)))
	s.buf = binary.BigEndian.AppendUint32(s.buf, uint32(len(value)))
	s.buf = append(append(s.buf, key...), value...)
	if len(s.buf) >= checksumBuffer {
		s.flush()
	}
	s.sum.Keys++
	s.sum.Bytes += uint64(len(key) + len(value))
	return true
}

func (s *summer) flush() {
	s.sum.CRC64 = crc64.Update(s.sum.CRC64, s.table, s.buf)
	s.buf = s.buf[:0]
}
