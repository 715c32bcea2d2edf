package storage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// A range stream carries the records of a key range in order, to a peer as a snapshot or into a
// file as a backup. It is laid out in docs/storage-format.md: a header, chunks of records each
// with a checksum over its own number too, and a last chunk with the totals, so that what is
// missing at the end, or in between, is an error.
const (
	rangeMagic   = "wsrange"
	rangeVersion = 1
	// rangeChunk is where a chunk is cut. A record is never split.
	rangeChunk = 128 << 10
	// maxRangeChunk is what a reader accepts: more than any record that the state may hold.
	maxRangeChunk = 64 << 20

	chunkRecords = 1
	chunkEnd     = 2

	rangeHeaderSize = len(rangeMagic) + 1
	rangeFrameSize  = 4 + 4 + 1 // length u32 of the payload, crc u32, kind u8
	rangeTotalsSize = 8 + 8
)

// Amount is how much a range holds.
type Amount struct {
	Keys  uint64
	Bytes uint64 // of keys and values, without what a format adds
}

// RangeWriter writes a range stream. One goroutine at a time; it keeps nothing that it is given.
type RangeWriter struct {
	w      io.Writer
	buf    []byte // frame and payload of the chunk that is being filled
	number uint64
	amount Amount
	last   []byte
	err    error
}

// NewRangeWriter returns a writer of one stream, which is whole only after Close.
func NewRangeWriter(w io.Writer) *RangeWriter {
	e := &RangeWriter{w: w, buf: make([]byte, rangeFrameSize, rangeFrameSize+rangeChunk+4096)}
	_, err := w.Write(append([]byte(rangeMagic), rangeVersion))
	e.fail(err)
	return e
}

// Add writes a record. Keys must ascend, or the error is ErrOrder. It blocks as w does. An error
// ends the stream.
func (e *RangeWriter) Add(key, value []byte) error {
	if e.amount.Keys > 0 && string(key) <= string(e.last) {
		e.fail(fmt.Errorf("key %x behind %x: %w", key, e.last, ErrOrder))
	}
	if len(key)+len(value) > maxRangeChunk-2*binary.MaxVarintLen64 {
		e.fail(fmt.Errorf("key %x with a value of %d bytes: %w", key, len(value), ErrRange))
	}
	if e.err != nil {
		return e.err
	}
	if len(e.buf) > rangeFrameSize && len(e.buf)+len(key)+len(value) > rangeFrameSize+rangeChunk {
		if err := e.flush(chunkRecords); err != nil {
			return err
		}
	}
	e.buf = binary.AppendUvarint(e.buf, uint64(len(key)))
	e.buf = append(e.buf, key...)
	e.buf = binary.AppendUvarint(e.buf, uint64(len(value)))
	e.buf = append(e.buf, value...)
	e.last = append(e.last[:0], key...)
	e.amount.Keys++
	e.amount.Bytes += uint64(len(key) + len(value))
	return nil
}

// Close writes what is left and the end of the stream. It does not close what lies below.
func (e *RangeWriter) Close() error {
	if e.err == nil && len(e.buf) > rangeFrameSize {
		_ = e.flush(chunkRecords) // kept in err
	}
	if e.err != nil {
		return e.err
	}
	e.buf = binary.BigEndian.AppendUint64(e.buf, e.amount.Keys)
	e.buf = binary.BigEndian.AppendUint64(e.buf, e.amount.Bytes)
	return e.flush(chunkEnd)
}

func (e *RangeWriter) flush(kind byte) error {
	payload := e.buf[rangeFrameSize:]
	binary.BigEndian.PutUint32(e.buf, uint32(len(payload)))
	binary.BigEndian.PutUint32(e.buf[4:], rangeCRC(e.number, kind, payload))
	e.buf[8] = kind
	_, err := e.w.Write(e.buf)
	e.fail(err)
	e.number++
	e.buf = e.buf[:rangeFrameSize]
	return e.err
}

func (e *RangeWriter) fail(err error) {
	if e.err == nil && err != nil {
		e.err = fmt.Errorf("write range stream: %w", err)
	}
}

// rangeCRC covers the chunk's place in the stream: a chunk that is missing or stands elsewhere
// is damage.
func rangeCRC(number uint64, kind byte, payload []byte) uint32 {
	var head [9]byte
	binary.BigEndian.PutUint64(head[:], number)
	head[8] = kind
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, payload)
}

// ExportRange writes the records of r in [lower, upper) to w as a range stream. r must not change
// meanwhile: a snapshot. It blocks as w does; to end it early, let w fail.
func ExportRange(w io.Writer, r Reader, lower, upper []byte) (Amount, error) {
	e := NewRangeWriter(w)
	err := r.Scan(lower, upper, func(key, value []byte) bool { return e.Add(key, value) == nil })
	if e.err != nil {
		return e.amount, e.err
	}
	if err != nil {
		return e.amount, fmt.Errorf("export range: %w", err)
	}
	return e.amount, e.Close()
}
