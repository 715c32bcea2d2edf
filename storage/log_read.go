package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// HardState returns the group's hard state, zero if none was ever written.
func (l *Log) HardState(g GroupID) (HardState, error) {
	b, err := l.record(groupKey(g, fieldHardState), hardStateSize)
	if errors.Is(err, ErrNotFound) {
		return HardState{}, nil
	}
	if err != nil {
		return HardState{}, fmt.Errorf("read hard state: %w", err)
	}
	return parseHardState(b), nil
}

// Node returns a copy of the value that PutNode stored, or ErrNotFound.
func (l *Log) Node(key []byte) ([]byte, error) {
	b, err := l.record(nodeKey(key), -1)
	if err != nil {
		return nil, fmt.Errorf("read node record %q: %w", key, err)
	}
	return b, nil
}

func (l *Log) record(key []byte, want int) ([]byte, error) {
	v, closer, err := l.kv.Get(key)
	if err != nil {
		return nil, wrapCorrupt(key, err)
	}
	defer func() { _ = closer.Close() }()
	b, err := openRecord(key, v, want)
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), b...), nil
}

// Term returns the term of an entry, of the last truncated one too. Entries before that
// give ErrCompacted, entries after the last ErrUnavailable.
func (l *Log) Term(g GroupID, index uint64) (uint64, error) {
	b := l.bounds(g)
	switch index {
	case b.last.Index:
		return b.last.Term, nil
	case b.truncated.Index:
		return b.truncated.Term, nil
	}
	if err := b.check(index); err != nil {
		return 0, fmt.Errorf("read term of group %d index %d: %w", g, index, err)
	}
	h, err := l.header(g, index)
	if err != nil {
		return 0, fmt.Errorf("read term of group %d index %d: %w", g, index, err)
	}
	return h.term, nil
}

func (b *bounds) check(index uint64) error {
	switch {
	case index <= b.truncated.Index:
		return ErrCompacted
	case index > b.last.Index:
		return ErrUnavailable
	}
	return nil
}

// header returns the first chunk of an entry without its data.
func (l *Log) header(g GroupID, index uint64) (chunk, error) {
	var h chunk
	err := l.withChunk(g, index, 0, func(c chunk) error {
		h = c
		h.data = nil
		return nil
	})
	return h, err
}

// withChunk hands a checked chunk to use, without a copy.
func (l *Log) withChunk(g GroupID, index uint64, n uint32, use func(chunk) error) error {
	var key [entryKeySize]byte
	putEntryKey(key[:], g, index, n)
	v, closer, err := l.kv.Get(key[:])
	if err != nil {
		return l.missing(g, index, key[:], err)
	}
	defer func() { _ = closer.Close() }()
	c, err := parseChunk(key[:], v)
	if err != nil {
		return err
	}
	return use(c)
}

// missing explains a chunk that was not found. The bounds are asked again: a truncation
// that came in between is ErrCompacted (raft panics on anything else), and only then is the
// record missed.
func (l *Log) missing(g GroupID, index uint64, key []byte, err error) error {
	if !errors.Is(err, ErrNotFound) {
		return wrapCorrupt(key, err)
	}
	if err := l.bounds(g).check(index); err != nil {
		return err
	}
	return corruptLog(key, errMissing)
}

// wrapCorrupt puts the log's words into a CorruptError that came from below.
func wrapCorrupt(key []byte, err error) error {
	var c *CorruptError
	if errors.As(err, &c) {
		return corruptLog(key, c.Err)
	}
	return err
}

// ReadAt appends n bytes of an entry's data, from offset off, to dst. It reads only the
// chunks that hold them. An entry that was truncated gives ErrCompacted, one that is not
// there yet ErrUnavailable, a range outside of the entry ErrRange.
func (l *Log) ReadAt(g GroupID, index uint64, off, n int, dst []byte) ([]byte, error) {
	if err := l.bounds(g).check(index); err != nil {
		return dst, fmt.Errorf("read group %d index %d: %w", g, index, err)
	}
	if off < 0 || n < 0 || uint64(off)+uint64(n) > math.MaxUint32 { // no entry is that long
		return dst, fmt.Errorf("read group %d index %d: %w: offset %d length %d", g, index, ErrRange, off, n)
	}
	for end := off + n; ; {
		grown, err := l.readChunk(g, index, off, end, dst)
		if err != nil {
			return dst, fmt.Errorf("read group %d index %d: %w", g, index, err)
		}
		off += len(grown) - len(dst)
		dst = grown
		if off >= end {
			return dst, nil
		}
	}
}

// readChunk appends what the chunk at offset off holds of [off, end). A read at the very end
// of an entry whose last chunk is full looks at that chunk, not at the one behind it.
func (l *Log) readChunk(g GroupID, index uint64, off, end int, dst []byte) ([]byte, error) {
	n := off / chunkData
	if off == end && n > 0 && off%chunkData == 0 {
		n--
	}
	var key [entryKeySize]byte
	putEntryKey(key[:], g, index, uint32(n))
	v, closer, err := l.kv.Get(key[:])
	if err != nil {
		return dst, l.beyond(g, index, key[:], end, err)
	}
	defer func() { _ = closer.Close() }()
	c, err := parseChunk(key[:], v)
	if err != nil {
		return dst, err
	}
	if end > int(c.size) {
		return dst, fmt.Errorf("%w: %d of %d bytes", ErrRange, end, c.size)
	}
	return append(dst, c.data[off-n*chunkData:min(end-n*chunkData, len(c.data))]...), nil
}

// beyond tells a chunk that an entry never had from one that was lost.
func (l *Log) beyond(g GroupID, index uint64, key []byte, end int, err error) error {
	if errors.Is(err, ErrNotFound) && binary.BigEndian.Uint32(key[13:]) > 0 {
		h, herr := l.header(g, index)
		if herr != nil {
			return herr
		}
		if end > int(h.size) {
			return fmt.Errorf("%w: %d of %d bytes", ErrRange, end, h.size)
		}
	}
	return l.missing(g, index, key, err)
}
