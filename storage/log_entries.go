package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Entries returns the entries in [lo, hi), fewer if their data exceeds maxBytes, but at
// least one. Their data belongs to the caller. An entry that was truncated, before or during
// the call, gives ErrCompacted; hi beyond the last entry gives ErrUnavailable.
func (l *Log) Entries(g GroupID, lo, hi, maxBytes uint64) ([]Entry, error) {
	entries, err := l.entries(g, lo, hi, maxBytes)
	if err != nil {
		return nil, fmt.Errorf("read group %d entries %d to %d: %w", g, lo, hi, err)
	}
	return entries, nil
}

func (l *Log) entries(g GroupID, lo, hi, maxBytes uint64) ([]Entry, error) {
	b := l.bounds(g)
	if lo >= hi {
		return nil, b.check(lo)
	}
	if err := errors.Join(b.check(lo), b.check(hi-1)); err != nil {
		return nil, firstOf(err)
	}
	it, err := l.kv.Iter(entryKey(g, lo, 0), entryKey(g, hi, 0))
	if err != nil {
		return nil, err
	}
	entries, err := l.collect(it, g, lo, hi, maxBytes)
	return entries, firstErr(err, it.Close())
}

// firstOf keeps ErrCompacted bare where both ends of a range are wrong.
func firstOf(err error) error {
	if errors.Is(err, ErrCompacted) {
		return ErrCompacted
	}
	return ErrUnavailable
}

// collect moves the cursor only where it must: the block behind the last entry is none of the
// reader's business, and may be damaged.
func (l *Log) collect(it KVIter, g GroupID, lo, hi, maxBytes uint64) ([]Entry, error) {
	entries := make([]Entry, 0, min(hi-lo, 64))
	var total uint64
	for index := lo; index < hi; index++ {
		var ok bool
		if index == lo {
			ok = it.First()
		} else {
			ok = it.Next()
		}
		size, err := l.peek(it, ok, g, index)
		if err != nil {
			return nil, err
		}
		if total += uint64(size); total > maxBytes && len(entries) > 0 {
			break
		}
		e, err := l.assemble(it, g, index, int(size))
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// ended explains why the cursor does not stand at a key: it failed on the way, or there is none.
func (l *Log) ended(it KVIter, g GroupID, index uint64, key []byte) error {
	if err := it.Error(); err != nil {
		return wrapCorrupt(key, err)
	}
	return l.missing(g, index, key, ErrNotFound)
}

// peek returns the size of the entry at whose first chunk the cursor must stand.
func (l *Log) peek(it KVIter, ok bool, g GroupID, index uint64) (uint32, error) {
	var key [entryKeySize]byte
	putEntryKey(key[:], g, index, 0)
	if !ok || string(it.Key()) != string(key[:]) {
		return 0, l.ended(it, g, index, key[:])
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return 0, l.missing(g, index, key[:], err)
	}
	if len(v) < chunkHeader {
		return 0, corruptLog(key[:], errLength)
	}
	return binary.BigEndian.Uint32(v[1:]), nil
}

// assemble reads all chunks of an entry, and leaves the cursor at the last one. The size is
// trusted with memory only once the first chunk's checksum has shown it to be right.
func (l *Log) assemble(it KVIter, g GroupID, index uint64, size int) (Entry, error) {
	e := Entry{Index: index}
	var key [entryKeySize]byte
	for n := range chunks(size) {
		putEntryKey(key[:], g, index, uint32(n))
		if n > 0 && (!it.Next() || string(it.Key()) != string(key[:])) {
			return e, l.ended(it, g, index, key[:])
		}
		_, c, err := iterChunk(it)
		if err != nil {
			return e, l.missing(g, index, key[:], err)
		}
		if n == 0 {
			e.Term, e.Type = c.term, c.kind
			e.Data = make([]byte, 0, c.size)
		}
		e.Data = append(e.Data, c.data...)
	}
	return e, nil
}
