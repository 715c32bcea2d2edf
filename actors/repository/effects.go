package repository

import (
	"bytes"
	"sort"
	"unsafe"
)

// OpKind is the kind of a write.
type OpKind uint8

// The kinds of writes.
const (
	OpSet OpKind = iota
	OpDelete
	OpDeleteRange // value is the upper bound, exclusive
	// OpSetNew is OpSet of a key that the state does not have: what is written and deleted soon
	// after need not be written at all.
	OpSetNew
)

type op struct {
	kind       OpKind
	key, value []byte
}

// Effects is what Apply decided, as data: writes to be made in one atomic batch,
// and the results for those who wait. Reset and use again.
type Effects struct {
	Results Results
	ops     []op
	buf     []byte
	// The overlay of this entry's writes is built only when the entry reads back
	// what it may have written: a publish under positions never does.
	byKey  map[string]int
	sorted map[byte][]int
}

// Reset empties e and keeps its memory.
func (e *Effects) Reset() {
	e.Results.Reset()
	e.ops = e.ops[:0]
	if cap(e.buf) > 1<<20 {
		e.buf = nil // one big entry must not be kept for ever
	}
	e.buf = e.buf[:0]
	e.byKey, e.sorted = nil, nil
}

// Each visits the writes in order. visit must not keep its arguments.
func (e *Effects) Each(visit func(kind OpKind, key, value []byte)) {
	for i := range e.ops {
		visit(e.ops[i].kind, e.ops[i].key, e.ops[i].value)
	}
}

// Len is the number of writes.
func (e *Effects) Len() int { return len(e.ops) }

// Bytes is the size of the writes.
func (e *Effects) Bytes() int { return len(e.buf) }

func (e *Effects) keep(b []byte) []byte {
	n := len(e.buf)
	e.buf = append(e.buf, b...) // when this moves, what was kept stays where it was
	return e.buf[n:len(e.buf):len(e.buf)]
}

func (e *Effects) set(key, value []byte)    { e.add(op{OpSet, e.keep(key), e.keep(value)}) }
func (e *Effects) setNew(key, value []byte) { e.add(op{OpSetNew, e.keep(key), e.keep(value)}) }
func (e *Effects) delete(key []byte)        { e.add(op{OpDelete, e.keep(key), nil}) }

// setKnown sets a key that the state has, or does not have.
func (e *Effects) setKnown(has bool, key, value []byte) {
	if has {
		e.set(key, value)
	} else {
		e.setNew(key, value)
	}
}

// sets says whether the key has a value after the write.
func (o *op) sets() bool { return o.kind == OpSet || o.kind == OpSetNew }

// deleteRange is not seen by the overlay: its callers drop whole buckets, which
// nobody consults any more.
func (e *Effects) deleteRange(lower, upper []byte) {
	e.ops = append(e.ops, op{OpDeleteRange, e.keep(lower), e.keep(upper)})
}

func (e *Effects) add(o op) {
	e.ops = append(e.ops, o)
	if e.byKey != nil {
		e.index(len(e.ops) - 1)
	}
}

func (e *Effects) index(i int) {
	k := e.ops[i].key
	s := unsafe.String(unsafe.SliceData(k), len(k)) // kept bytes never change
	_, known := e.byKey[s]
	e.byKey[s] = i
	if list, ok := e.sorted[k[2]]; ok && !known {
		at := sort.Search(len(list), func(j int) bool { return bytes.Compare(e.ops[list[j]].key, k) >= 0 })
		list = append(list, 0)
		copy(list[at+1:], list[at:])
		list[at] = i
		e.sorted[k[2]] = list
	}
}

func (e *Effects) overlay() {
	if e.byKey != nil {
		return
	}
	e.byKey = make(map[string]int, len(e.ops)+64)
	e.sorted = map[byte][]int{}
	for i := range e.ops {
		if e.ops[i].kind != OpDeleteRange {
			e.index(i)
		}
	}
}

// lookup answers what this entry wrote to key.
func (e *Effects) lookup(key []byte) (o op, ok bool) {
	e.overlay()
	i, ok := e.byKey[string(key)]
	if !ok {
		return op{}, false
	}
	return e.ops[i], true
}

// table lists this entry's writes to a table in the order of their keys; the
// newest write of a key is e.byKey's.
func (e *Effects) table(t byte) []int {
	e.overlay()
	if list, ok := e.sorted[t]; ok {
		return list
	}
	list := make([]int, 0, 16)
	for _, i := range e.byKey {
		if e.ops[i].key[2] == t {
			list = append(list, i)
		}
	}
	sort.Slice(list, func(a, b int) bool { return bytes.Compare(e.ops[list[a]].key, e.ops[list[b]].key) < 0 })
	e.sorted[t] = list
	return list
}

// get reads through this entry's writes.
func (m *Machine) get(key []byte) ([]byte, bool, error) {
	if m.eff != nil && len(m.eff.ops) > 0 {
		if o, ok := m.eff.lookup(key); ok {
			return o.value, o.sets(), nil
		}
	}
	return m.base.Get(key)
}

// scan visits [lower, upper), with this entry's writes laid over the state.
// visit may neither write nor read.
func (m *Machine) scan(lower, upper []byte, visit func(key, value []byte) bool) error {
	if m.eff == nil || len(m.eff.ops) == 0 {
		return m.base.Scan(lower, upper, visit)
	}
	e := m.eff
	list := e.table(lower[2])
	at := sort.Search(len(list), func(j int) bool { return bytes.Compare(e.ops[list[j]].key, lower) >= 0 })
	end := at + sort.Search(len(list)-at, func(j int) bool { return bytes.Compare(e.ops[list[at+j]].key, upper) >= 0 })
	if at == end {
		return m.base.Scan(lower, upper, visit)
	}
	stopped := false
	emit := func(i int) bool {
		k := e.ops[list[i]].key
		o := e.ops[e.byKey[unsafe.String(unsafe.SliceData(k), len(k))]]
		if !o.sets() {
			return true
		}
		return visit(o.key, o.value)
	}
	err := m.base.Scan(lower, upper, func(k, v []byte) bool {
		for at < end && bytes.Compare(e.ops[list[at]].key, k) < 0 {
			if !emit(at) {
				stopped = true
				return false
			}
			at++
		}
		if at < end && bytes.Equal(e.ops[list[at]].key, k) {
			ok := emit(at)
			at++
			stopped = !ok
			return ok
		}
		stopped = !visit(k, v)
		return !stopped
	})
	for err == nil && !stopped && at < end {
		if !emit(at) {
			break
		}
		at++
	}
	return err
}
