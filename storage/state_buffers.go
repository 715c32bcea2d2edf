package storage

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// buffers are the buffers of all families that were ever written to.
type buffers struct {
	all   atomic.Pointer[map[family]*buffer] // never changed in place
	mu    sync.Mutex                         // of who adds one
	bytes atomic.Int64                       // in all of them
}

// manyBuffers is beyond how many a buffer's memory does not stay when it is drained.
const manyBuffers = 64

func (s *buffers) get(f family) *buffer {
	if m := s.all.Load(); m != nil {
		return (*m)[f]
	}
	return nil
}

func (s *buffers) make(f family) *buffer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.get(f); b != nil {
		return b
	}
	next := map[family]*buffer{}
	if m := s.all.Load(); m != nil {
		next = maps.Clone(*m)
	}
	b := newBuffer(f)
	next[f] = b
	s.all.Store(&next)
	return b
}

// between lists the buffers that may have keys in [lower, upper), by ascending families.
func (s *buffers) between(lower, upper []byte) []*buffer {
	m := s.all.Load()
	if m == nil {
		return nil
	}
	if len(lower) >= familyKey && len(upper) >= familyKey && familyOf(lower) == familyOf(upper) {
		if b := (*m)[familyOf(lower)]; b != nil {
			return []*buffer{b}
		}
		return nil
	}
	var list []*buffer
	for _, b := range *m {
		prefix := []byte{byte(b.family >> 8), byte(b.family)}
		if upper != nil && bytes.Compare(prefix, upper) >= 0 || len(lower) >= 2 && bytes.Compare(prefix, lower[:2]) < 0 {
			continue
		}
		list = append(list, b)
	}
	slices.SortFunc(list, func(x, y *buffer) int { return int(x.family) - int(y.family) })
	return list
}

// commit takes a batch in: into its family's buffer if that may be, else into the KV.
func (s *State) commit(b *StateBatch) error {
	if err := s.kv.Fault(); err != nil {
		return err
	}
	s.pace.committed()
	f, one := b.family()
	if !one {
		return s.commitMixed(b)
	}
	buf := s.buffers.get(f)
	if buf == nil {
		buf = s.buffers.make(f)
	}
	buf.mu.Lock()
	defer buf.mu.Unlock()
	if !b.plain() {
		if err := s.drainLocked(buf); err != nil {
			return err
		}
		return b.direct(s.kv)
	}
	before := len(buf.arena)
	for i := range b.writes {
		w, key, value := b.at(i)
		buf.write(w.kind, key, value)
	}
	if all := s.buffers.bytes.Add(int64(len(buf.arena) - before)); buf.full() || all > buffersBytes {
		return s.drainLocked(buf)
	}
	return nil
}

// commitMixed commits what concerns several families behind all that came before it.
func (s *State) commitMixed(b *StateBatch) error {
	all := s.buffers.between(nil, nil)
	for _, buf := range all {
		buf.mu.Lock()
		defer buf.mu.Unlock()
	}
	for _, buf := range all {
		if err := s.drainLocked(buf); err != nil {
			return err
		}
	}
	return b.direct(s.kv)
}

func (s *State) drainLocked(b *buffer) error {
	size := len(b.arena)
	if err := b.drain(s.kv); err != nil {
		return err
	}
	s.buffers.bytes.Add(-int64(size))
	if m := s.buffers.all.Load(); len(*m) > manyBuffers {
		b.free()
	}
	return nil
}

// drain brings what was committed of [lower, upper) before the call into the KV, or more.
func (s *State) drain(lower, upper []byte) error {
	for _, b := range s.buffers.between(lower, upper) {
		if err := s.drainOne(b); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) drainOne(b *buffer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return s.drainLocked(b)
}

// settle is drain for who can't fail. What failed stays in the buffer, and fails again.
func (s *State) settle(lower, upper []byte) {
	if err := s.drain(lower, upper); err != nil {
		s.log.Error("state could not be written", "error", err)
	}
}

// Get returns a copy of the value, which belongs to the caller, or ErrNotFound.
func (s *State) Get(key []byte) ([]byte, error) { return s.AppendGet(nil, key) }

// AppendGet appends the value to dst: Get without an allocation. Without such a key it
// returns dst and ErrNotFound.
func (s *State) AppendGet(dst, key []byte) ([]byte, error) {
	if len(key) >= familyKey {
		if b := s.buffers.get(familyOf(key)); b != nil {
			if got, known, err := b.appendGet(dst, key); known {
				return got, err
			}
		}
	}
	// What is drained meanwhile is in the KV before it leaves the buffer.
	return s.reader.AppendGet(dst, key)
}

func (b *buffer) appendGet(dst, key []byte) (got []byte, known bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, deleted, known := b.get(key)
	if deleted {
		return dst, true, ErrNotFound
	}
	if known && dst == nil {
		dst = make([]byte, 0, len(v)) // so that an empty value is not nil
	}
	return append(dst, v...), known, nil
}

// Scan visits the keys in [lower, upper) in order until visit returns false.
func (s *State) Scan(lower, upper []byte, visit func(key, value []byte) bool) error {
	list := s.buffers.between(lower, upper)
	if len(list) == 0 {
		return s.reader.Scan(lower, upper, visit)
	}
	it, over, err := s.view(list, lower, upper)
	if err != nil {
		return fmt.Errorf("scan state: %w", err)
	}
	return walk(it, over, visit)
}

// view opens a cursor and copies what is to be laid over it, both of one moment.
func (s *State) view(list []*buffer, lower, upper []byte) (it KVIter, over []found, err error) {
	for _, b := range list {
		b.mu.Lock()
		defer b.mu.Unlock()
	}
	for _, b := range list {
		over = append(over, b.within(lower, upper)...)
	}
	it, err = s.kv.Iter(lower, upper)
	return it, over, err
}

// walk visits what a cursor shows, with records laid over it.
func walk(it KVIter, over []found, visit func(key, value []byte) bool) error {
	on := true
	emit := func(f *found) {
		if !f.deleted {
			on = visit(f.key, f.value)
		}
	}
	for ok := it.First(); ok && on; ok = it.Next() {
		k := it.Key()
		for on && len(over) > 0 && bytes.Compare(over[0].key, k) < 0 {
			emit(&over[0])
			over = over[1:]
		}
		if !on {
			break
		}
		if len(over) > 0 && bytes.Equal(over[0].key, k) {
			emit(&over[0])
			over = over[1:]
			continue
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return errors.Join(fmt.Errorf("scan state key %x: %w", it.Key(), err), it.Close())
		}
		on = visit(k, v)
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("scan state: %w", err)
	}
	for ; on && len(over) > 0; over = over[1:] {
		emit(&over[0])
	}
	return nil
}
