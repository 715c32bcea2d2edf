package storage

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"sync"
)

// A family is the keys that share their first two bytes: all that one group has in the state.
type family uint16

// familyKey is the least length of a key that has a place in a buffer: the family, and the
// byte behind it, by which a scan finds what it may have to show.
const familyKey = 3

func familyOf(key []byte) family { return family(binary.BigEndian.Uint16(key)) }

// The bounds of a family's buffer, beyond which it is drained. Together they take a few MiB; a
// drain takes about a millisecond, for which the family's commits and reads wait.
const (
	bufferRecords = 2048
	bufferBytes   = 256 << 10
	// buffersBytes bounds all of them together, for nodes with many groups.
	buffersBytes = 8 << 20
)

// buffer holds what was committed of one family since it was last drained into the KV. The
// state has no log of its own, so that nothing is lost by keeping it here: a crash takes it, as
// it takes a memtable. What is written again and again — heads, positions, the applied index —
// reaches the memtable once a drain; what is written and deleted soon after never does; and the
// rest goes in by ascending keys, which costs the skiplist a fraction of its time.
type buffer struct {
	family family

	mu      sync.Mutex
	seed    maphash.Seed
	records []buffered
	slots   []int32 // hash table over records: the place plus one
	shelves [256]int32
	arena   []byte
	gone    int // records that were new and are deleted
}

// buffered is the newest write of a key. The key and the value lie in the arena; a value may be
// followed by room that an earlier, longer one had.
type buffered struct {
	hash       uint64
	key, value uint32
	keyLen     uint32
	valueLen   uint32
	room       uint32
	next       int32 // of the same shelf: the place plus one
	state      recordState
}

type recordState uint8

const (
	recordSet     recordState = iota
	recordNew                 // set, and the KV has no such key
	recordDeleted             // the KV may have the key
	recordGone                // neither here nor in the KV
)

func newBuffer(f family) *buffer { return &buffer{family: f, seed: maphash.MakeSeed()} }

func (b *buffer) keyOf(r *buffered) []byte   { return b.arena[r.key : r.key+r.keyLen] }
func (b *buffer) valueOf(r *buffered) []byte { return b.arena[r.value : r.value+r.valueLen] }

func (b *buffer) keep(p []byte) uint32 {
	at := uint32(len(b.arena))
	b.arena = append(b.arena, p...)
	return at
}

// find returns the record of a key, or nil. The mutex is held.
func (b *buffer) find(key []byte, hash uint64) *buffered {
	if len(b.slots) == 0 {
		return nil
	}
	mask := uint64(len(b.slots) - 1)
	for at := hash & mask; b.slots[at] != 0; at = (at + 1) & mask {
		if r := &b.records[b.slots[at]-1]; r.hash == hash && bytes.Equal(b.keyOf(r), key) {
			return r
		}
	}
	return nil
}

func (b *buffer) add(key []byte, hash uint64) *buffered {
	if 2*len(b.records) >= len(b.slots) {
		b.grow()
	}
	shelf := &b.shelves[key[familyKey-1]]
	b.records = append(b.records, buffered{hash: hash, key: b.keep(key), keyLen: uint32(len(key)), next: *shelf})
	*shelf = int32(len(b.records))
	b.place(hash, *shelf)
	return &b.records[len(b.records)-1]
}

func (b *buffer) place(hash uint64, n int32) {
	mask := uint64(len(b.slots) - 1)
	at := hash & mask
	for b.slots[at] != 0 {
		at = (at + 1) & mask
	}
	b.slots[at] = n
}

func (b *buffer) grow() {
	b.slots = make([]int32, max(64, 2*len(b.slots)))
	for i := range b.records {
		b.place(b.records[i].hash, int32(i+1))
	}
}

func (b *buffer) write(kind writeKind, key, value []byte) {
	hash := maphash.Bytes(b.seed, key)
	r := b.find(key, hash)
	known := r != nil
	if !known {
		r = b.add(key, hash)
	}
	if r.state == recordGone && known {
		b.gone--
	}
	switch {
	case kind == writeDelete:
		r.valueLen = 0
		if known && (r.state == recordNew || r.state == recordGone) {
			r.state = recordGone
			b.gone++
			return
		}
		r.state = recordDeleted
		return
	case known && (r.state == recordNew || r.state == recordGone), !known && kind == writeNew:
		r.state = recordNew
	default:
		r.state = recordSet
	}
	if n := uint32(len(value)); n > r.room {
		r.value, r.room = b.keep(value), n
	} else {
		copy(b.arena[r.value:], value)
	}
	r.valueLen = uint32(len(value))
}

// get tells what the buffer knows of a key; the value is valid as long as the mutex is held.
func (b *buffer) get(key []byte) (value []byte, deleted, known bool) {
	if len(b.records) == 0 {
		return nil, false, false
	}
	r := b.find(key, maphash.Bytes(b.seed, key))
	switch {
	case r == nil:
		return nil, false, false
	case r.state == recordDeleted, r.state == recordGone:
		return nil, true, true
	}
	return b.valueOf(r), false, true
}

// live is the number of records that a drain would write.
func (b *buffer) live() int { return len(b.records) - b.gone }

func (b *buffer) full() bool { return len(b.records) >= bufferRecords || len(b.arena) >= bufferBytes }

// drain commits all of it to the KV as one batch, and forgets it. The mutex is held.
func (b *buffer) drain(kv KV) error {
	if len(b.records) == 0 {
		return nil
	}
	if b.live() > 0 {
		if err := b.commit(kv); err != nil {
			return err
		}
	}
	b.reset()
	return nil
}

func (b *buffer) commit(kv KV) error {
	order := b.sorted(func(r *buffered) bool { return r.state != recordGone })
	batch := kv.NewBatch(len(b.arena) + 16*len(order))
	for i := range order {
		r := &b.records[order[i].at]
		if r.state == recordDeleted {
			batch.Delete(b.keyOf(r))
			continue
		}
		k, v := batch.Set(int(r.keyLen), int(r.valueLen))
		copy(k, b.keyOf(r))
		copy(v, b.valueOf(r))
	}
	return batch.Commit(false)
}

func (b *buffer) reset() {
	clear(b.slots)
	clear(b.shelves[:])
	b.records, b.arena, b.gone = b.records[:0], b.arena[:0], 0
}

// free gives the memory back too.
func (b *buffer) free() {
	b.reset()
	b.records, b.slots, b.arena = nil, nil, nil
}

// ordered is a record on its way into the order of the keys. The bytes behind the family decide
// most comparisons.
type ordered struct {
	head uint64
	at   int32
}

// sorted lists the records that keep accepts by ascending keys.
func (b *buffer) sorted(keep func(*buffered) bool) []ordered {
	list := make([]ordered, 0, len(b.records))
	for i := range b.records {
		if keep(&b.records[i]) {
			list = append(list, b.order(int32(i)))
		}
	}
	b.sort(list)
	return list
}

func (b *buffer) order(at int32) ordered {
	var head [8]byte
	copy(head[:], b.keyOf(&b.records[at])[2:])
	return ordered{head: binary.BigEndian.Uint64(head[:]), at: at}
}

func (b *buffer) sort(list []ordered) {
	slices.SortFunc(list, func(x, y ordered) int {
		switch {
		case x.head < y.head:
			return -1
		case x.head > y.head:
			return 1
		}
		return bytes.Compare(b.keyOf(&b.records[x.at]), b.keyOf(&b.records[y.at]))
	})
}

// found is a record that a scan lays over what the KV has.
type found struct {
	key, value []byte
	deleted    bool
}

// within copies what the buffer has in [lower, upper), by ascending keys. The mutex is held.
func (b *buffer) within(lower, upper []byte) []found {
	var list []ordered
	add := func(i int32) {
		k := b.keyOf(&b.records[i])
		if bytes.Compare(k, lower) >= 0 && (upper == nil || bytes.Compare(k, upper) < 0) {
			list = append(list, b.order(i))
		}
	}
	if shelf, one := oneShelf(lower, upper); one {
		for i := b.shelves[shelf]; i != 0; i = b.records[i-1].next {
			add(i - 1)
		}
	} else {
		for i := range b.records {
			add(int32(i))
		}
	}
	if len(list) == 0 {
		return nil
	}
	b.sort(list)
	return b.copy(list)
}

func (b *buffer) copy(list []ordered) []found {
	size := 0
	for _, o := range list {
		size += int(b.records[o.at].keyLen + b.records[o.at].valueLen)
	}
	memory := make([]byte, 0, size)
	keep := func(p []byte) []byte {
		memory = append(memory, p...)
		return memory[len(memory)-len(p) : len(memory) : len(memory)]
	}
	out := make([]found, len(list))
	for i, o := range list {
		r := &b.records[o.at]
		deleted := r.state == recordDeleted || r.state == recordGone
		out[i] = found{key: keep(b.keyOf(r)), value: keep(b.valueOf(r)), deleted: deleted}
	}
	return out
}

// oneShelf tells whether all keys of [lower, upper) agree in their third byte too.
func oneShelf(lower, upper []byte) (shelf byte, one bool) {
	if len(lower) < familyKey || len(upper) < familyKey {
		return 0, false
	}
	last := upper[familyKey-1]
	if len(upper) == familyKey {
		last-- // what begins with the bound's own byte lies beyond
	}
	one = bytes.Equal(lower[:familyKey-1], upper[:familyKey-1]) && lower[familyKey-1] == last
	return lower[familyKey-1], one
}
