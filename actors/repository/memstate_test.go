package repository

import (
	"bytes"
	"fmt"
	"iter"
)

// memState is the simplest sorted Reader there is: a skip list. It poisons what it
// hands out, so that a value kept for too long shows; and counts what is asked.
type memState struct {
	head   skipNode
	rng    uint64
	kind   bool // to the reader: hand out what is stored, for benchmarks
	last   []byte
	gets   int
	scans  int
	visits int
}

const skipLevels = 20

type skipNode struct {
	key   string
	value []byte
	next  [skipLevels]*skipNode
}

func newMemState() *memState { return &memState{rng: 1} }

// seek finds the first node at or above key, and the nodes before it by level.
func (s *memState) seek(key []byte, before *[skipLevels]*skipNode) *skipNode {
	n := &s.head
	for level := skipLevels - 1; level >= 0; level-- {
		for n.next[level] != nil && n.next[level].key < string(key) {
			n = n.next[level]
		}
		if before != nil {
			before[level] = n
		}
	}
	return n.next[0]
}

func (s *memState) set(key, value []byte) {
	var before [skipLevels]*skipNode
	n := s.seek(key, &before)
	if n != nil && n.key == string(key) {
		n.value = bytes.Clone(value)
		return
	}
	n = &skipNode{key: string(key), value: bytes.Clone(value)}
	s.rng ^= s.rng << 13
	s.rng ^= s.rng >> 7
	s.rng ^= s.rng << 17
	for level := range skipLevels {
		n.next[level], before[level].next[level] = before[level].next[level], n
		if s.rng>>level&1 == 0 {
			break
		}
	}
}

func (s *memState) delete(key []byte) {
	var before [skipLevels]*skipNode
	n := s.seek(key, &before)
	if n == nil || n.key != string(key) {
		return
	}
	for level := range skipLevels {
		if before[level].next[level] == n {
			before[level].next[level] = n.next[level]
		}
	}
}

func (s *memState) Get(key []byte) ([]byte, bool, error) {
	s.gets++
	n := s.seek(key, nil)
	ok := n != nil && n.key == string(key)
	if s.kind {
		if !ok {
			return nil, false, nil
		}
		return n.value, true, nil
	}
	for i := range s.last {
		s.last[i] = 0xdb
	}
	if s.last = nil; ok {
		s.last = bytes.Clone(n.value)
	}
	return s.last, ok, nil
}

func (s *memState) Scan(lower, upper []byte, visit func(k, v []byte) bool) error {
	s.scans++
	var kb, vb []byte
	for n := s.seek(lower, nil); n != nil && n.key < string(upper); n = n.next[0] {
		s.visits++
		kb = append(kb[:0], n.key...)
		if s.kind {
			if !visit(kb, n.value) {
				break
			}
			continue
		}
		vb = append(vb[:0], n.value...)
		ok := visit(kb, vb)
		clear(kb)
		clear(vb)
		if !ok {
			break
		}
	}
	return nil
}

func (s *memState) write(eff *Effects) {
	eff.Each(func(kind OpKind, k, v []byte) {
		switch kind {
		case OpSet:
			s.set(k, v)
		case OpSetNew:
			if n := s.seek(k, nil); n != nil && n.key == string(k) {
				panic(fmt.Sprintf("key %x is not new", k))
			}
			s.set(k, v)
		case OpDelete:
			s.delete(k)
		case OpDeleteRange:
			for n := s.seek(k, nil); n != nil && n.key < string(v); n = s.seek(k, nil) {
				s.delete([]byte(n.key))
			}
		}
	})
}

// all visits what is stored in order; changing it meanwhile is fine.
func (s *memState) all() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for n := s.head.next[0]; n != nil; n = n.next[0] {
			if !yield(n.key, n.value) {
				return
			}
		}
	}
}

func (s *memState) first() *skipNode { return s.head.next[0] }

// logical is the first node from n on that is not a replica's own.
func (n *skipNode) logical() *skipNode {
	for n != nil && (n.key[2] == tableSpill || n.key[2] == tableManifest || n.key[2] == tableMeta && n.key[3] == metaSpilled) {
		n = n.next[0]
	}
	return n
}
