package storage

import (
	"fmt"
	"slices"
)

// writeKind is what a StateBatch does with a key.
type writeKind uint8

const (
	writeSet writeKind = iota
	writeNew
	writeDelete
	writeDeleteRange // of the value, the upper bound
)

// StateBatch gathers writes that become visible as one. One goroutine at a time.
type StateBatch struct {
	state  *State
	writes []batchWrite
	bytes  []byte // keys and values, as they come
}

type batchWrite struct {
	kind          writeKind
	key           int // where it begins
	keyLen, value int // their lengths
}

const (
	// directBytes is how much is committed without the detour by the buffer: payloads.
	directBytes = 128 << 10
	// writeOverhead is what a record takes in a batch of the KV beside key and value, at most.
	writeOverhead = 16
)

func (b *StateBatch) reserve(kind writeKind, keyLen, valueLen int) (key, value []byte) {
	at := len(b.bytes)
	b.bytes = slices.Grow(b.bytes, keyLen+valueLen)[:at+keyLen+valueLen]
	b.writes = append(b.writes, batchWrite{kind, at, keyLen, valueLen})
	return b.bytes[at : at+keyLen : at+keyLen], b.bytes[at+keyLen:]
}

func (b *StateBatch) put(kind writeKind, key, value []byte) {
	k, v := b.reserve(kind, len(key), len(value))
	copy(k, key)
	copy(v, value)
}

func (b *StateBatch) at(i int) (w *batchWrite, key, value []byte) {
	w = &b.writes[i]
	middle := w.key + w.keyLen
	return w, b.bytes[w.key:middle], b.bytes[middle : middle+w.value]
}

// Set copies key and value.
func (b *StateBatch) Set(key, value []byte) { b.put(writeSet, key, value) }

// SetNew is Set of a key that the state does not have, for which the caller vouches: if it is
// deleted again soon, neither leaves a trace.
func (b *StateBatch) SetNew(key, value []byte) { b.put(writeNew, key, value) }

// SetDeferred reserves room for a record, and returns where key and value must be written
// before the next call: it spares a copy.
func (b *StateBatch) SetDeferred(keyLen, valueLen int) (key, value []byte) {
	return b.reserve(writeSet, keyLen, valueLen)
}

// Delete deletes one key.
func (b *StateBatch) Delete(key []byte) { b.put(writeDelete, key, nil) }

// DeleteRange deletes the keys in [lower, upper).
func (b *StateBatch) DeleteRange(lower, upper []byte) { b.put(writeDeleteRange, lower, upper) }

// Len is the size of the batch in bytes.
func (b *StateBatch) Len() int { return len(b.bytes) + writeOverhead*len(b.writes) }

// Commit applies the batch; it must not be used afterwards. An error is ErrSync and final.
func (b *StateBatch) Commit() error {
	defer b.release()
	if len(b.writes) == 0 {
		return nil
	}
	if err := b.state.commit(b); err != nil {
		return fmt.Errorf("commit state batch: %w", err)
	}
	return nil
}

// Discard gives the batch back uncommitted.
func (b *StateBatch) Discard() { b.release() }

func (b *StateBatch) release() {
	s := b.state
	b.state, b.writes, b.bytes = nil, b.writes[:0], b.bytes[:0]
	if cap(b.bytes) <= 4*directBytes {
		s.batches.put(b)
	}
}

// family is that of all keys; one is false if they are of several, or of none.
func (b *StateBatch) family() (f family, one bool) {
	for i := range b.writes {
		w, key, value := b.at(i)
		if len(key) < familyKey || i > 0 && familyOf(key) != f {
			return 0, false
		}
		f = familyOf(key)
		if w.kind == writeDeleteRange && (len(value) < familyKey || familyOf(value) != f) {
			return 0, false
		}
	}
	return f, true
}

// plain tells whether a buffer may take the batch: it has neither ranges nor much.
func (b *StateBatch) plain() bool {
	if len(b.bytes) > directBytes {
		return false
	}
	for i := range b.writes {
		if b.writes[i].kind == writeDeleteRange {
			return false
		}
	}
	return true
}

// direct commits the batch to the KV itself.
func (b *StateBatch) direct(kv KV) error {
	batch := kv.NewBatch(b.Len())
	for i := range b.writes {
		switch w, key, value := b.at(i); w.kind {
		case writeSet, writeNew:
			k, v := batch.Set(len(key), len(value))
			copy(k, key)
			copy(v, value)
		case writeDelete:
			batch.Delete(key)
		case writeDeleteRange:
			batch.DeleteRange(key, value)
		}
	}
	return batch.Commit(false)
}
