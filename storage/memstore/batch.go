package memstore

import (
	"bytes"

	"github.com/waystation/waystation/storage"
)

// NewBatch implements storage.KV.
func (s *Store) NewBatch(int) storage.KVBatch { return &batch{store: s} }

type batch struct {
	store *Store
	ops   []op
	size  int
}

// op is a set, or a deletion of [key, upper).
type op struct {
	key, value, upper []byte
}

func (b *batch) Set(keyLen, valueLen int) (key, value []byte) {
	o := op{key: make([]byte, keyLen), value: make([]byte, valueLen)}
	b.ops = append(b.ops, o)
	b.size += keyLen + valueLen
	return o.key, o.value
}

func (b *batch) Delete(key []byte) { b.DeleteRange(key, after(key)) }

func (b *batch) DeleteRange(lower, upper []byte) {
	b.ops = append(b.ops, op{key: bytes.Clone(lower), upper: bytes.Clone(upper)})
	b.size += len(lower) + len(upper)
}

func (b *batch) Len() int { return b.size }

func (b *batch) Commit(sync bool) error {
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return storage.ErrClosed
	}
	if s.fault != nil {
		return s.fault
	}
	if len(b.ops) == 0 {
		return nil
	}
	for _, o := range b.ops {
		if o.upper != nil {
			s.root = deleteRange(s.root, o.key, o.upper)
		} else {
			s.root = set(s.root, &node{key: o.key, value: o.value, priority: priority(o.key)})
		}
	}
	s.pending = append(s.pending, s.root)
	if sync {
		return s.syncLocked()
	}
	return nil
}

func (b *batch) Discard() {}
