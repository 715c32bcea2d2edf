package repository

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// lane is what a group still has to do for a repository.
type lane struct {
	cursors [Ranks]Seq // settled through; at a priority's end if nothing waits
	// The lease; token 0: none. It holds every retained packet of rank in
	// (cursors[rank], last].
	token   Token
	rank    Rank
	last    Seq
	leaseMs uint32
	session string
	ended   endedLeases   // the same settlement twice is fine
	again   [Ranks]uint64 // packets that were redriven, and wait
	blocked Seq           // the dead packet that holds the lane, of blockedIn; 0: none
	parkTo  Seq           // what waits up to it becomes dead letters; 0: nothing

	blockedIn Rank
	heads     [Ranks]head
	index     [Ranks]int64 // its places in the runnable index: since when it may run; 0: none

	leased  Token // as the lease table has it
	fresh   bool  // not stored yet: its cursors are where the group starts, as of now
	dirty   bool
	touched bool
	served  bool // was granted since it was loaded: it keeps windows
	windows [Ranks]*window
}

// Flags of a lane's record. Those of a rank are shifted by it.
const (
	laneHead   = 1 << 0
	laneIndex  = 1 << 3
	laneLeased = 1 << 6
	laneRare   = 1 << 7 // what few lanes have follows
)

// Flags of what few lanes have.
const (
	rareAgain   = 1 << 0
	rareBlocked = 1 << 1
	rareParking = 1 << 2
)

func (l *lane) flags() (flags byte) {
	for k := range Ranks {
		if l.heads[k].seq != 0 {
			flags |= laneHead << k
		}
		if l.index[k] != 0 {
			flags |= laneIndex << k
		}
	}
	if l.token != 0 {
		flags |= laneLeased
	}
	if l.rare() != 0 {
		flags |= laneRare
	}
	return flags
}

func (l *lane) rare() (flags byte) {
	if l.again != [Ranks]uint64{} {
		flags |= rareAgain
	}
	if l.blocked != 0 {
		flags |= rareBlocked
	}
	if l.parkTo != 0 {
		flags |= rareParking
	}
	return flags
}

func (l *lane) appendRare(b []byte) []byte {
	flags := l.rare()
	b = append(b, flags)
	if flags&rareAgain != 0 {
		for _, n := range l.again {
			b = binary.AppendUvarint(b, n)
		}
	}
	if flags&rareBlocked != 0 {
		b = append(binary.AppendUvarint(b, uint64(l.blocked)), byte(l.blockedIn))
	}
	if flags&rareParking != 0 {
		b = binary.AppendUvarint(b, uint64(l.parkTo))
	}
	return b
}

func (l *lane) decodeRare(d *decoder) error {
	flags := d.byte()
	if flags&rareAgain != 0 {
		for i := range l.again {
			l.again[i] = d.uvarint()
		}
	}
	if flags&rareBlocked != 0 {
		l.blocked, l.blockedIn = Seq(d.uvarint()), Rank(d.byte())
	}
	if flags&rareParking != 0 {
		l.parkTo = Seq(d.uvarint())
	}
	if d.err == nil && (flags == 0 || flags >= rareParking<<1 || l.blockedIn >= Ranks) {
		return fmt.Errorf("rare flags %x, rank %d", flags, l.blockedIn)
	}
	return nil
}

func (l *lane) append(b []byte) []byte {
	flags := l.flags()
	b = append(b, version1, flags)
	for _, c := range l.cursors {
		b = binary.AppendUvarint(b, uint64(c))
	}
	if l.token != 0 {
		b = binary.AppendUvarint(b, uint64(l.token))
		b = append(b, byte(l.rank))
		b = binary.AppendUvarint(b, uint64(l.last))
		b = binary.AppendUvarint(b, uint64(l.leaseMs))
		b = appendBytes(b, l.session)
	}
	b = l.ended.append(b)
	for k := range Ranks {
		if h := &l.heads[k]; flags&(laneHead<<k) != 0 {
			b = binary.AppendUvarint(b, uint64(h.seq))
			b = binary.AppendUvarint(b, uint64(h.attempts))
			b = binary.AppendUvarint(b, uint64(h.notBeforeMs))
			b = h.failures.append(b)
		}
		if flags&(laneIndex<<k) != 0 {
			b = binary.AppendUvarint(b, uint64(l.index[k]))
		}
	}
	if flags&laneRare != 0 {
		b = l.appendRare(b)
	}
	return b
}

func (l *lane) decode(b []byte) error {
	d := decoder{b: b}
	if v := d.byte(); d.err == nil && v != version1 {
		return fmt.Errorf("unknown version %d", v)
	}
	flags := d.byte()
	for i := range l.cursors {
		l.cursors[i] = Seq(d.uvarint())
	}
	if flags&laneLeased != 0 {
		l.token, l.rank, l.last = Token(d.uvarint()), Rank(d.byte()), Seq(d.uvarint())
		l.leaseMs, l.session = uint32(d.uvarint()), string(d.bytes())
	}
	if err := l.ended.decode(&d); err != nil {
		return err
	}
	for k := range Ranks {
		if flags&(laneHead<<k) != 0 {
			h := &l.heads[k]
			h.seq, h.attempts, h.notBeforeMs = Seq(d.uvarint()), uint32(d.uvarint()), int64(d.uvarint())
			h.failures.decode(&d)
		}
		if flags&(laneIndex<<k) != 0 {
			l.index[k] = int64(d.uvarint())
		}
	}
	if flags&laneRare != 0 {
		if err := l.decodeRare(&d); err != nil {
			return err
		}
	}
	l.leased = l.token
	if d.err == nil && l.rank >= Ranks {
		return fmt.Errorf("rank %d", l.rank)
	}
	return d.err
}

// covers says whether a live grant holds the packet.
func (l *lane) covers(rank Rank, seq Seq) bool {
	return l.token != 0 && l.rank == rank && seq > l.cursors[rank] && seq <= l.last
}

// exempts says for how long, in milliseconds, a packet must not end by itself: a live
// grant holds it, or it is the dead one that holds the lane; 0: it may.
func (l *lane) exempts(rank Rank, seq Seq) int64 {
	switch {
	case l.covers(rank, seq):
		return second
	case l.blocked == seq && l.blockedIn == rank && seq != 0:
		return minute // somebody has to look at it first
	}
	return 0
}

// held says that nothing of the lane runs until somebody, or the upkeep, has done
// something about a dead letter.
func (l *lane) held() bool { return l.blocked != 0 || l.parkTo != 0 }

// hold is until when a failure holds the lane: all of it, because order is promised.
func (l *lane) hold() (ms int64) {
	for k := range l.heads {
		ms = max(ms, l.heads[k].notBeforeMs)
	}
	return ms
}

// holder is the priority whose failure holds the lane.
func (l *lane) holder(now int64) (Rank, bool) {
	for k := range Rank(Ranks) {
		if at := l.heads[k].notBeforeMs; at > now && at == l.hold() {
			return k, true
		}
	}
	return 0, false
}

// loadLane returns the group's lane; a missing one begins at the group's start.
func (m *Machine) loadLane(g *group, r *repo) (*lane, error) {
	l, err := m.cachedLane(g, r)
	if err == nil && l.fresh && !l.dirty {
		// Where it starts is computed at each use, never remembered: else what a
		// replica happens to have looked at would show in what it stores.
		l.begin(g, r)
	}
	return l, err
}

// begin sets the cursors of a lane that has no record. A group that starts at the
// end has one from the first packet after its start on, so without one nothing
// waits. For the others all that is retained does.
func (l *lane) begin(g *group, r *repo) {
	for rank := range Rank(Ranks) {
		s := &r.ranks[rank]
		if l.cursors[rank] = s.last; s.count > 0 && g.startIndex == 0 {
			l.cursors[rank] = s.first - 1
		}
	}
}

func (m *Machine) cachedLane(g *group, r *repo) (*lane, error) {
	for i := range r.lanes {
		if r.lanes[i].group == g.cfg.ID {
			return r.lanes[i].lane, nil
		}
	}
	l := &lane{}
	key := m.keyLane(g.cfg.ID, r.id)
	v, ok, err := m.base.Get(key)
	if err != nil {
		return nil, err
	}
	if l.fresh = !ok; ok {
		if err := l.decode(v); err != nil {
			return nil, &CorruptError{bytes.Clone(key), err.Error()}
		}
	}
	r.lanes = append(r.lanes, laneSlot{g.cfg.ID, l})
	m.repos.charge(r, laneCost+len(l.session))
	return l, nil
}

// openLanes fixes where the lanes of groups that start at the end begin, before
// the first packet after that start.
func (m *Machine) openLanes(r *repo) error {
	for _, g := range m.groups {
		if g.startIndex == 0 || !g.asks(m.index) {
			continue
		}
		l, err := m.loadLane(g, r)
		if err != nil {
			return err
		}
		l.dirty = l.dirty || l.fresh
	}
	return nil
}

// wake looks at the lanes of every group again after packets came.
func (m *Machine) wake(r *repo) error {
	for _, g := range m.groups {
		if !g.asks(m.index) {
			continue
		}
		l, err := m.loadLane(g, r)
		if err != nil {
			return err
		}
		if !l.fresh || l.dirty || g.indexed(r.id) { // else the backfill will come to it
			m.touch(g, r, l)
		}
	}
	return nil
}

// keepRun adds a run that was published now to the windows of lanes that are served.
func (m *Machine) keepRun(r *repo, rank Rank, x *run) {
	kept := run{}
	for i := range r.lanes {
		w := r.lanes[i].lane.windows[rank]
		if w == nil || !w.open {
			continue
		}
		if kept.items == nil { // the windows share it: nobody changes it
			kept = *x
			kept.items = append([]runItem(nil), x.items...)
		}
		before := w.items
		w.join(kept)
		m.repos.charge(r, (w.items-before)*windowCost)
	}
}

func (m *Machine) trimWindow(r *repo, l *lane, rank Rank) {
	if w := l.windows[rank]; w != nil {
		before := w.items
		w.trim(l.cursors[rank])
		m.repos.charge(r, (w.items-before)*windowCost)
	}
}
