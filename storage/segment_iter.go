package storage

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Iter implements LogKV. Small records are seen as they were at the call. An entry is looked up when
// the cursor comes to it, and then read at once: what readers and a writer of one group may do at the
// same time, the log sees to.
func (l *segmentLog) Iter(lower, upper []byte) (KVIter, error) {
	if err := l.faults.get(); err != nil {
		return nil, err
	}
	it := &segmentIter{log: l, lower: bytes.Clone(lower), upper: bytes.Clone(upper)}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(lower) > 0 && lower[0] >= prefixEntry {
		return it, nil
	}
	it.smalls = map[string][]byte{}
	for k, s := range l.index.smalls {
		if it.within([]byte(k)) {
			it.keys = append(it.keys, k)
			it.smalls[k] = s.value
		}
	}
	slices.Sort(it.keys)
	return it, nil
}

// segmentIter is a cursor over small records, then entries.
type segmentIter struct {
	log          *segmentLog
	lower, upper []byte
	keys         []string
	smalls       map[string][]byte

	key   []byte // where it is; empty: nowhere
	entry place  // that it is in
	at    int    // in keys, as long as it is there
	data  []byte // of the entry, all chunks
	nonce uint64
}

func (i *segmentIter) within(k []byte) bool {
	return bytes.Compare(k, i.lower) >= 0 && (i.upper == nil || bytes.Compare(k, i.upper) < 0)
}

func (i *segmentIter) First() bool { return i.seek(i.lower) }

func (i *segmentIter) SeekGE(key []byte) bool {
	if bytes.Compare(key, i.lower) < 0 {
		key = i.lower
	}
	return i.seek(key)
}

func (i *segmentIter) seek(key []byte) bool {
	i.at, _ = slices.BinarySearch(i.keys, string(key))
	if i.at < len(i.keys) {
		i.key = append(i.key[:0], i.keys[i.at]...)
		return true
	}
	g, index, ok := parseEntryKey(key)
	if !ok { // before all entries, or behind them
		if len(key) > 0 && key[0] > prefixEntry {
			return i.nowhere()
		}
		return i.seekEntry(0, 0)
	}
	if chunkOf(key) > 0 && i.land(g, index, chunkOf(key)) {
		return i.check()
	}
	if chunkOf(key) > 0 {
		index++
	}
	return i.seekEntry(g, index)
}

// seekEntry goes to the first entry at or behind an index, in this group or a later one.
func (i *segmentIter) seekEntry(g GroupID, index uint64) bool {
	i.log.mu.RLock()
	g, index, ok := i.log.index.next(g, index)
	i.log.mu.RUnlock()
	if !ok || !i.land(g, index, 0) {
		return i.nowhere()
	}
	return i.check()
}

// next is the first entry at or behind an index, in this group or a later one.
func (x *segmentIndex) next(g GroupID, index uint64) (GroupID, uint64, bool) {
	if e := x.entries[g]; e != nil && index < e.end() {
		return g, max(index, e.first), true
	}
	best, found := GroupID(0), false
	for other := range x.entries {
		if other > g && (!found || other < best) {
			best, found = other, true
		}
	}
	if !found {
		return 0, 0, false
	}
	return best, x.entries[best].first, true
}

// land puts the cursor on a chunk, if there is one.
func (i *segmentIter) land(g GroupID, index uint64, chunk int) bool {
	i.log.mu.RLock()
	p, ok := i.log.index.find(g, index)
	i.log.mu.RUnlock()
	if !ok || chunk >= chunks(int(p.size)) {
		return false
	}
	i.entry, i.data = p, i.data[:0]
	i.key = append(i.key[:0], entryKey(g, index, uint32(chunk))...)
	return true
}

func (i *segmentIter) check() bool {
	if !i.within(i.key) {
		return i.nowhere()
	}
	return true
}

func (i *segmentIter) nowhere() bool {
	i.key = i.key[:0]
	return false
}

func (i *segmentIter) Next() bool {
	if len(i.key) == 0 {
		return false
	}
	g, index, ok := parseEntryKey(i.key)
	if !ok {
		if i.at++; i.at < len(i.keys) {
			i.key = append(i.key[:0], i.keys[i.at]...)
			return true
		}
		return i.seekEntry(0, 0)
	}
	if n := chunkOf(i.key) + 1; n < chunks(int(i.entry.size)) {
		binary.BigEndian.PutUint32(i.key[entryKeySize-4:], uint32(n))
		return i.check()
	}
	return i.seekEntry(g, index+1)
}

// Last goes to the last chunk of the last entry before the bound; without entries to the last small one.
func (i *segmentIter) Last() bool {
	i.log.mu.RLock()
	g, index, chunk, ok := i.log.index.before(i.upper)
	i.log.mu.RUnlock()
	if ok && i.land(g, index, chunk) && i.within(i.key) {
		return true
	}
	if n := len(i.keys); n > 0 {
		i.at = n - 1
		i.key = append(i.key[:0], i.keys[n-1]...)
		return true
	}
	return i.nowhere()
}

// before is the last chunk below a key; nil is behind all.
func (x *segmentIndex) before(upper []byte) (g GroupID, index uint64, chunk int, ok bool) {
	limit, to, exact := parseEntryKey(upper)
	if !exact {
		limit, to = ^GroupID(0), ^uint64(0)
		if len(upper) > 0 && upper[0] <= prefixEntry {
			return 0, 0, 0, false
		}
	}
	for _, other := range x.groups() {
		e := x.entries[other]
		last := e.end()
		if exact && other == limit {
			last = min(last, to) // bounds are between entries
		}
		if other > limit || last <= e.first {
			continue
		}
		g, index, ok = other, last-1, true
		chunk = chunks(int(e.places[index-e.first].size)) - 1
	}
	return g, index, chunk, ok
}

func (i *segmentIter) Key() []byte { return i.key }

// ValueAndErr reads an entry once, however many chunks it has.
func (i *segmentIter) ValueAndErr() ([]byte, error) {
	g, index, ok := parseEntryKey(i.key)
	if !ok {
		return i.smalls[string(i.key)], nil
	}
	n := chunkOf(i.key)
	if len(i.data) == 0 {
		if err := i.read(g, index, n); err != nil {
			return nil, err
		}
	}
	at := n * chunkStride
	p := i.data[at : at+chunkOverhead+chunkLen(int(i.entry.size), n)]
	value, err := openChunk(i.nonce, int64(i.entry.off)+int64(at), p, i.key)
	if err != nil {
		return nil, corruptLog(i.key, err)
	}
	return value, nil
}

// read gets all chunks of the entry from the file. One that went meanwhile is not found: that is for
// the log to explain.
func (i *segmentIter) read(g GroupID, index uint64, n int) error {
	p, s, err := i.log.locate(g, index)
	if err != nil {
		return err
	}
	if s == nil {
		return corruptLog(i.key, errDamaged)
	}
	defer i.log.unpin(s)
	if n >= chunks(int(p.size)) {
		return ErrNotFound
	}
	i.entry, i.nonce = p, s.header.nonce
	size := int(storedBytes(int(p.size)))
	i.data = slices.Grow(i.data[:0], size)[:size]
	if err := readFull(s, int64(p.off), i.data, i.key); err != nil {
		i.data = i.data[:0]
		return err
	}
	return nil
}

// Error is nil: a cursor moves in memory.
func (i *segmentIter) Error() error { return nil }

func (i *segmentIter) Close() error { return nil }

func chunkOf(key []byte) int { return int(binary.BigEndian.Uint32(key[entryKeySize-4:])) }
