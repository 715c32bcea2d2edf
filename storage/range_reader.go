package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

var errTotals = errors.New("totals differ")

// RangeReader reads a range stream. It reads no byte behind the stream's end. One goroutine at a
// time.
type RangeReader struct {
	r       io.Reader
	started bool
	number  uint64
	payload []byte // of the current chunk
	rest    []byte // of the payload
	last    []byte
	amount  Amount
	err     error
}

// NewRangeReader returns a reader of one stream. Reads are large: r needs no buffer.
func NewRangeReader(r io.Reader) *RangeReader { return &RangeReader{r: r} }

// Next returns the next record, which is valid until the call after. The end of a whole stream is
// io.EOF, bare; a stream that ends before its end is io.ErrUnexpectedEOF; damage is ErrCorrupt; a
// version that this program does not know is ErrFormat. It blocks as the reader below does.
func (d *RangeReader) Next() (key, value []byte, err error) {
	for d.err == nil && len(d.rest) == 0 {
		d.err = d.chunk()
	}
	if d.err != nil {
		return nil, nil, d.err
	}
	key, ok := d.piece()
	if ok {
		value, ok = d.piece()
	}
	switch {
	case !ok:
		d.err = d.corrupt(errLength)
	case d.amount.Keys > 0 && string(key) <= string(d.last):
		d.err = d.corrupt(fmt.Errorf("key %x behind %x: %w", key, d.last, ErrOrder))
	}
	if d.err != nil {
		return nil, nil, d.err
	}
	d.last = append(d.last[:0], key...)
	d.amount.Keys++
	d.amount.Bytes += uint64(len(key) + len(value))
	return key, value, nil
}

// Amount is what was read so far.
func (d *RangeReader) Amount() Amount { return d.amount }

// piece takes a string with its length from the payload.
func (d *RangeReader) piece() ([]byte, bool) {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || n > uint64(len(d.rest)-size) {
		return nil, false
	}
	b := d.rest[size : size+int(n) : size+int(n)]
	d.rest = d.rest[size+int(n):]
	return b, true
}

// chunk reads the next chunk; io.EOF is the stream's end.
func (d *RangeReader) chunk() error {
	if err := d.start(); err != nil {
		return err
	}
	var frame [rangeFrameSize]byte
	if err := d.full(frame[:]); err != nil {
		return err
	}
	size, kind := binary.BigEndian.Uint32(frame[:]), frame[8]
	if size > maxRangeChunk {
		return d.corrupt(errLength)
	}
	if err := d.fill(int(size)); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(frame[4:]) != rangeCRC(d.number, kind, d.payload) {
		return d.corrupt(errChecksum)
	}
	d.number++
	switch kind {
	case chunkRecords:
		d.rest = d.payload
		return nil
	case chunkEnd:
		return d.end()
	}
	return fmt.Errorf("read range stream: %w: chunk of kind %d", ErrFormat, kind)
}

func (d *RangeReader) start() error {
	if d.started {
		return nil
	}
	d.started = true
	var head [rangeHeaderSize]byte
	if err := d.full(head[:]); err != nil {
		return err
	}
	if string(head[:len(rangeMagic)]) != rangeMagic || head[len(rangeMagic)] != rangeVersion {
		return fmt.Errorf("read range stream: %w: it begins with %q", ErrFormat, head)
	}
	return nil
}

func (d *RangeReader) end() error {
	if len(d.payload) != rangeTotalsSize {
		return d.corrupt(errLength)
	}
	total := Amount{Keys: binary.BigEndian.Uint64(d.payload), Bytes: binary.BigEndian.Uint64(d.payload[8:])}
	if total != d.amount {
		return d.corrupt(fmt.Errorf("%w: %+v were written, %+v read", errTotals, total, d.amount))
	}
	return io.EOF
}

// fill reads a payload. A length is not trusted with memory before there are bytes.
func (d *RangeReader) fill(size int) error {
	const step = 1 << 20
	d.payload = d.payload[:0]
	for len(d.payload) < size {
		from := len(d.payload)
		n := min(size-from, step)
		d.payload = slices.Grow(d.payload, n)[:from+n]
		if err := d.full(d.payload[from:]); err != nil {
			return err
		}
	}
	return nil
}

func (d *RangeReader) full(b []byte) error {
	_, err := io.ReadFull(d.r, b)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read range stream chunk %d: %w", d.number, err)
	}
	return nil
}

func (d *RangeReader) corrupt(err error) error {
	return &CorruptError{Store: "range stream", What: fmt.Sprintf("chunk %d", d.number), Err: err}
}

// ImportRange adds the records of a range stream to a stage, which the caller seals or discards.
// An error means that the stream is not whole, as RangeReader.Next says, or that the stage failed.
// It reads no byte behind the stream's end.
func ImportRange(r io.Reader, to *Stage) (Amount, error) {
	d := NewRangeReader(r)
	for {
		key, value, err := d.Next()
		if err == io.EOF { //nolint:errorlint // it is bare at a whole end, and only there
			return d.amount, nil
		}
		if err == nil {
			err = to.Add(key, value)
		}
		if err != nil {
			return d.amount, fmt.Errorf("import range: %w", err)
		}
	}
}
