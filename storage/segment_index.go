package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// place is where an entry's chunks lie. Twelve bytes are all that an entry takes in memory.
type place struct {
	segment uint32 // 0: nowhere, it was damaged, or all zero, it is absent
	off     uint32
	size    uint32 // of the entry's data
}

// entryPlaces are the entries that a group has, without a gap.
type entryPlaces struct {
	first  uint64
	places []place
}

func (p *entryPlaces) end() uint64 { return p.first + uint64(len(p.places)) }

// small is a record that is kept in memory as well.
type small struct {
	value   []byte
	segment uint32
}

// usage is what is alive of a segment.
type usage struct {
	bytes   uint64 // of entries
	groups  map[GroupID]int
	smalls  int
	touched uint64 // the last frame that made something of it obsolete
}

// segmentIndex is what replaying all frames leads to.
type segmentIndex struct {
	entries  map[GroupID]*entryPlaces
	smalls   map[string]small
	segments map[uint32]*usage
	live     uint64 // bytes of all entries
}

func newSegmentIndex() *segmentIndex {
	return &segmentIndex{entries: map[GroupID]*entryPlaces{}, smalls: map[string]small{}, segments: map[uint32]*usage{}}
}

func (x *segmentIndex) usage(segment uint32) *usage {
	u := x.segments[segment]
	if u == nil {
		u = &usage{groups: map[GroupID]int{}}
		x.segments[segment] = u
	}
	return u
}

// apply replays a frame of a segment, whose chunks begin at body. An error names the first op that
// does not follow from what was before; all others are applied.
func (x *segmentIndex) apply(segment uint32, body int64, f *frame) (err error) {
	for i := range f.ops {
		if opErr := x.applyOp(segment, body, f.seq, &f.ops[i]); opErr != nil && err == nil {
			err = opErr
		}
	}
	return err
}

func (x *segmentIndex) applyOp(segment uint32, body int64, seq uint64, o *frameOp) error {
	switch o.kind {
	case opEntry:
		return x.put(o.group, o.index, place{segment, uint32(body) + o.off, o.size}, seq, false)
	case opCarried:
		return x.put(o.group, o.index, place{segment, uint32(body) + o.off, o.size}, seq, true)
	case opLost:
		return x.put(o.group, o.index, place{off: 1, size: o.size}, seq, true)
	case opSet:
		x.set(string(o.key), small{bytes.Clone(o.value), segment}, seq)
	case opDelete:
		x.unset(string(o.key), seq)
	case opDeleteRange:
		return x.deleteRange(o.key, o.value, seq)
	}
	return nil
}

func (x *segmentIndex) born(g GroupID, p place) {
	if p.segment != 0 {
		u := x.usage(p.segment)
		u.bytes += storedBytes(int(p.size))
		u.groups[g]++
		x.live += storedBytes(int(p.size))
	}
}

func (x *segmentIndex) died(g GroupID, p place, seq uint64) {
	if p.segment == 0 {
		return
	}
	u := x.usage(p.segment)
	u.bytes -= storedBytes(int(p.size))
	x.live -= storedBytes(int(p.size))
	if u.groups[g]--; u.groups[g] == 0 {
		delete(u.groups, g)
	}
	u.touched = max(u.touched, seq)
}

// mostAbsent bounds how far apart the entries of a group may be while frames are replayed.
const mostAbsent = 1 << 22

// put takes an entry in. A replay that begins behind the place where entries once were finds some that
// were carried after later ones: until it ends, entries between may be absent.
func (x *segmentIndex) put(g GroupID, index uint64, p place, seq uint64, carried bool) (err error) {
	e := x.entries[g]
	if e == nil {
		e = &entryPlaces{}
		x.entries[g] = e
	}
	if !e.near(index) || !carried && len(e.places) > 0 && index < e.end() { // only behind frames that were lost
		err = &opError{g, index}
		from := 0
		if index >= e.first && index < e.end() {
			from = int(index - e.first)
		}
		x.cut(g, e, from, len(e.places), seq)
	}
	at := e.reach(index)
	x.died(g, *at, seq)
	*at = p
	x.born(g, p)
	return err
}

// near tells whether an entry may be taken in beside those that are there.
func (p *entryPlaces) near(index uint64) bool {
	return len(p.places) == 0 || index+mostAbsent >= p.first && index <= p.end()+mostAbsent
}

// reach makes the entries as many that one of them is at an index.
func (p *entryPlaces) reach(index uint64) *place {
	switch {
	case len(p.places) == 0:
		p.first, p.places = index, append(p.places[:0], place{})
	case index == p.end():
		p.places = append(p.places, place{})
	case index > p.end():
		p.places = append(p.places, make([]place, index-p.end()+1)...)
	case index < p.first:
		p.places = append(make([]place, p.first-index, p.first-index+uint64(len(p.places))), p.places...)
		p.first = index
	}
	return &p.places[index-p.first]
}

// absent returns the first entry that a replay did not come to.
func (p *entryPlaces) absent() (index uint64, ok bool) {
	for i := range p.places {
		if p.places[i] == (place{}) {
			return p.first + uint64(i), true
		}
	}
	return 0, false
}

// cut takes the entries at [from, to) out, which are a prefix or a suffix.
func (x *segmentIndex) cut(g GroupID, e *entryPlaces, from, to int, seq uint64) {
	for _, p := range e.places[from:to] {
		x.died(g, p, seq)
	}
	if from == 0 {
		e.places = e.places[to:]
		e.first += uint64(to)
	} else {
		e.places = e.places[:from]
	}
}

func (x *segmentIndex) set(key string, s small, seq uint64) {
	x.unset(key, seq)
	x.smalls[key] = s
	x.usage(s.segment).smalls++
}

func (x *segmentIndex) unset(key string, seq uint64) {
	if old, ok := x.smalls[key]; ok {
		u := x.usage(old.segment)
		u.smalls--
		u.touched = max(u.touched, seq)
		delete(x.smalls, key)
	}
}

// deleteRange deletes entries of one group, which is all that the log ever asks for.
func (x *segmentIndex) deleteRange(lower, upper []byte, seq uint64) error {
	g, from, ok := parseEntryKey(lower)
	if !ok {
		return fmt.Errorf("%w: delete of keys %x to %x", errFrame, lower, upper)
	}
	to := ^uint64(0)
	if last, index, ok := parseEntryKey(upper); ok && last == g {
		to = index
	}
	e := x.entries[g]
	if e == nil {
		return nil
	}
	from, to = max(from, e.first), min(to, e.end())
	if from >= to {
		return nil
	}
	if from > e.first && to < e.end() {
		return &opError{g, from}
	}
	x.cut(g, e, int(from-e.first), int(to-e.first), seq)
	if len(e.places) == 0 {
		delete(x.entries, g)
	}
	return nil
}

// find returns where an entry lies.
func (x *segmentIndex) find(g GroupID, index uint64) (place, bool) {
	e := x.entries[g]
	if e == nil || index < e.first || index >= e.end() {
		return place{}, false
	}
	p := e.places[index-e.first]
	return p, p != place{}
}

// groups returns all groups with entries, in order.
func (x *segmentIndex) groups() []GroupID {
	all := make([]GroupID, 0, len(x.entries))
	for g := range x.entries {
		all = append(all, g)
	}
	slices.Sort(all)
	return all
}

// opError is an op that does not follow from what was before it.
type opError struct {
	group GroupID
	index uint64
}

func (e *opError) Error() string {
	return fmt.Sprintf("group %d index %d does not follow what is there", e.group, e.index)
}

func parseEntryKey(k []byte) (g GroupID, index uint64, ok bool) {
	if len(k) != entryKeySize || k[0] != prefixEntry {
		return 0, 0, false
	}
	return GroupID(binary.BigEndian.Uint32(k[1:])), binary.BigEndian.Uint64(k[5:]), true
}
