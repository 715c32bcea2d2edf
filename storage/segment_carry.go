package storage

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	// carryLeast is how much a commit carries at the least, if there is something to carry. It also
	// carries twice of what it writes, so that carrying is never outrun.
	carryLeast = 256 << 10
	// manySegments is how many small segments there may be, as restarts leave them, before their
	// content is gathered.
	manySegments = 8
)

// carry writes the oldest segment's small records again, once it has no entries, or what it has of
// both, if what is dead takes more room on disk than what is alive. Disk use is so at most twice of
// what is alive, and some segments; what is carried is at most as much as what is written.
//
// It is a frame of its own, which changes nothing of what a reader sees. The segment goes when this
// frame is synced.
func (l *segmentLog) carry(written int64) error {
	s, groups, smalls := l.carriable()
	if len(groups) == 0 && len(smalls) == 0 {
		return nil
	}
	b := l.NewBatch(0).(*segmentBatch)
	b.ops = append(b.ops, smalls...)
	for _, g := range groups {
		if int64(b.Len()) > carryLeast+2*written {
			break
		}
		if err := l.carryGroup(b, s, g, carryLeast+2*written); err != nil {
			return err
		}
	}
	if err := l.write(b); err != nil {
		return err
	}
	b.reuse()
	return nil
}

// carriable is what must be carried now: the small records of the oldest segments, as long as these
// have no entries, and the entries of the first that has, if they are in the way.
func (l *segmentLog) carriable() (s *segment, groups []GroupID, smalls []frameOp) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, s := range l.segments[:len(l.segments)-1] {
		u := l.index.segments[s.header.number]
		if u == nil {
			continue
		}
		if len(u.groups) > 0 && !l.crowdedLocked() {
			break
		}
		if u.smalls > 0 {
			smalls = append(smalls, l.smallsLocked(s.header.number)...)
		}
		if len(u.groups) > 0 {
			groups = slices.AppendSeq(groups, maps.Keys(u.groups))
			slices.Sort(groups)
			return s, groups, smalls
		}
	}
	return nil, nil, smalls
}

// smallsLocked writes a segment's small records again, in order.
func (l *segmentLog) smallsLocked(number uint32) (ops []frameOp) {
	for k, r := range l.index.smalls {
		if r.segment == number {
			ops = append(ops, frameOp{kind: opSet, key: []byte(k), value: r.value})
		}
	}
	slices.SortFunc(ops, func(a, b frameOp) int { return bytes.Compare(a.key, b.key) })
	return ops
}

// crowdedLocked tells whether segments are kept for too little.
func (l *segmentLog) crowdedLocked() bool {
	var disk int64
	for _, s := range l.segments {
		disk += s.end.Load()
	}
	live := int64(l.index.live)
	return disk-live > max(2*l.target, live) || len(l.segments) > manySegments+int(2*disk/l.target)
}

// carryGroup takes entries of a group from the segment.
func (l *segmentLog) carryGroup(b *segmentBatch, s *segment, g GroupID, limit int64) error {
	for _, c := range l.livingIn(s.header.number, g) {
		if int64(b.Len()) > limit {
			return nil
		}
		begin := len(b.buf)
		size := int(storedBytes(int(c.place.size)))
		o := frameOp{kind: opCarried, group: g, index: c.index, size: c.place.size, off: uint32(begin - b.room)}
		err := carryEntry(s, c, b.extend(size), g)
		switch {
		case errors.Is(err, ErrCorrupt):
			b.buf = b.buf[:begin]
			l.lose(b, &o, err)
		case err != nil:
			return err
		default:
			b.ops = append(b.ops, o)
		}
	}
	return nil
}

// lose takes note of an entry that is damaged where it lies.
func (l *segmentLog) lose(b *segmentBatch, o *frameOp, err error) {
	l.log.Error("entry damaged", "group", o.group, "index", o.index, "error", err)
	o.kind = opLost
	b.ops = append(b.ops, *o, frameOp{kind: opSet, key: groupKey(o.group, fieldDamage), value: damageText(err)})
	if l.damaged != nil {
		l.damaged(Damage{Group: o.group, Err: err})
	}
}

// damageText is what is remembered of a damage.
func damageText(err error) []byte {
	text := err.Error()
	return []byte(strings.ToValidUTF8(text[:min(len(text), 300)], ""))
}

type living struct {
	index uint64
	place place
}

// livingIn lists the entries of a group in a segment, which are mostly its first ones.
func (l *segmentLog) livingIn(number uint32, g GroupID) []living {
	l.mu.RLock()
	defer l.mu.RUnlock()
	e, left := l.index.entries[g], l.index.segments[number].groups[g]
	all := make([]living, 0, left)
	for i, p := range e.places {
		if len(all) == left {
			break
		}
		if p.segment == number {
			all = append(all, living{e.first + uint64(i), p})
		}
	}
	return all
}

// carryEntry copies an entry's chunks and checks them. Their checksums are made anew with the frame.
func carryEntry(s *segment, c living, buf []byte, g GroupID) error {
	if err := readFull(s, int64(c.place.off), buf, entryKey(g, c.index, 0)); err != nil {
		return err
	}
	for n := range chunks(int(c.place.size)) {
		key := entryKey(g, c.index, uint32(n))
		at := n * chunkStride
		p := buf[at : at+chunkOverhead+chunkLen(int(c.place.size), n)]
		if _, err := openChunk(s.header.nonce, int64(c.place.off)+int64(at), p, key); err != nil {
			return fmt.Errorf("carry: %w", corruptLog(key, err))
		}
	}
	return nil
}
