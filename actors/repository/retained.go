package repository

import "math"

// What of a repository is retained: every packet that a group has still to settle,
// and those that no group ever asked for.

// lowestOther is the number up to which every other group has settled a priority.
func (m *Machine) lowestOther(g *group, r *repo, rank Rank) (Seq, error) {
	low := Seq(math.MaxUint64)
	for _, other := range m.groups {
		if other == g {
			continue
		}
		l, err := m.loadLane(other, r)
		if err != nil {
			return 0, err
		}
		low = min(low, l.cursors[rank])
	}
	return low, nil
}

// pass moves a lane's cursor, counts what it passed, and forgets what no group
// needs any more: all in one walk. A cursor with nothing behind it moves to the
// priority's end, so that a lane waits exactly if its cursor is below that.
func (m *Machine) pass(g *group, r *repo, l *lane, rank Rank, to Seq) error {
	from, s := l.cursors[rank], &r.ranks[rank]
	if to <= from {
		return nil
	}
	others, err := m.lowestOther(g, r, rank)
	if err != nil {
		return err
	}
	p := passage{m: m, r: r, rank: rank, from: from, to: to, drop: from}
	if others > from { // else another group still needs what this one passes
		p.drop = min(others, to)
	}
	p.holes = s.count > 0 && s.first <= from
	if err := p.walk(l); err != nil {
		return err
	}
	if l.again[rank] > 0 {
		n, err := m.passAgain(g, r, l, rank, to)
		if err != nil {
			return err
		}
		p.passed += n
	}
	g.waiting[rank] -= min(p.passed, g.waiting[rank])
	g.dirty = true
	if l.cursors[rank] = to; !p.more && l.again[rank] == 0 {
		l.cursors[rank] = max(to, s.last)
	}
	if l.heads[rank].seq <= to {
		l.heads[rank] = head{}
	}
	l.dirty = true
	m.trimWindow(r, l, rank)
	m.touch(g, r, l)
	if p.drop > from {
		if m.forget(r, rank, p.forgotten); !p.holes {
			s.first = p.drop + 1
		}
	}
	return nil
}

// tally is how much of a priority goes.
type tally struct{ packets, bytes, delayed uint64 }

func (t *tally) add(it *runItem) {
	t.packets++
	t.bytes += uint64(it.length)
	if it.flags&itemDelay != 0 {
		t.delayed++
	}
}

// passage is a lane's way from one number to another.
type passage struct {
	m         *Machine
	r         *repo
	rank      Rank
	from, to  Seq
	drop      Seq    // what is in (from, drop] goes
	holes     bool   // something is retained below from, that nobody asked for
	passed    uint64 // packets in (from, to]
	more      bool   // there is something behind to
	forgotten tally
}

func (p *passage) walk(l *lane) error {
	last := p.r.ranks[p.rank].last
	for w := p.m.walk(p.r, l, p.rank, p.from+1); ; {
		x, err := w.next()
		if err != nil || x == nil {
			return err
		}
		if err := p.run(x); err != nil {
			return err
		}
		if p.more || x.last() >= last {
			return nil
		}
	}
}

func (p *passage) run(x *run) error {
	i := x.above(p.from)
	for ; i < len(x.items) && x.items[i].seq <= p.to; i++ {
		p.passed++
		if it := &x.items[i]; it.seq <= p.drop {
			p.forgotten.add(it)
			p.m.dropDeadline(p.r, p.rank, it)
		}
	}
	p.more = i < len(x.items)
	switch {
	case p.drop <= p.from || x.first() > p.drop:
	case p.holes: // else the numbers between would look retained
		below, err := p.below(x)
		if err != nil {
			return err
		}
		p.m.cutRun(p.r, p.rank, x, below, x.items[x.above(p.drop):])
	case x.last() <= p.drop:
		p.m.dropRun(p.r, p.rank, x)
	}
	return nil
}

// below is what of a run is retained, though this lane and all others are behind it:
// a group that asked for it was deleted. The record says so; x may be a window's, that
// has what others have cut since.
func (p *passage) below(x *run) ([]runItem, error) {
	first := p.r.ranks[p.rank].first
	if x.first() > p.from || first > p.from {
		return nil, nil
	}
	key := p.m.keyRun(p.r.id, p.rank, x.last())
	v, ok, err := p.m.get(key)
	if err != nil || !ok {
		return nil, err
	}
	var stored run
	if err := stored.decode(v); err != nil {
		return nil, &CorruptError{cloneKey(key), err.Error()}
	}
	return stored.items[stored.above(first-1):stored.above(p.from)], nil
}

func (m *Machine) storeRun(r *repo, rank Rank, x *run) {
	m.vbuf = x.append(m.vbuf[:0])
	m.eff.set(m.keyRun(r.id, rank, x.last()), m.vbuf)
}

func (m *Machine) dropRun(r *repo, rank Rank, x *run) {
	m.eff.delete(m.keyRun(r.id, rank, x.last()))
	m.dropSpill(x.index, x.base)
}

func (m *Machine) dropDeadline(r *repo, rank Rank, it *runItem) {
	if it.expireMs != 0 {
		m.eff.delete(m.keyDeadline(it.expireMs, r.id, rank, it.seq))
	}
}

func (m *Machine) forget(r *repo, rank Rank, t tally) {
	s := &r.ranks[rank]
	s.count -= t.packets
	s.delayed -= t.delayed
	r.bytes -= t.bytes
	m.stats.live[rank] -= t.packets
	m.stats.bytes -= t.bytes
	m.statsDirty = true
	m.touchRepo(r)
}

// dropFirst forgets the first retained packet of a priority; x is its run. The
// packets before it in the run's record are forgotten too, which their number says.
func (m *Machine) dropFirst(r *repo, rank Rank, x *run, it *runItem) {
	m.dropDeadline(r, rank, it)
	if x.last() == it.seq {
		m.dropRun(r, rank, x)
	}
	var t tally
	t.add(it)
	m.forget(r, rank, t)
	r.ranks[rank].first = it.seq + 1
}

// dropOne forgets one packet in the midst of a priority.
func (m *Machine) dropOne(r *repo, rank Rank, seq Seq) error {
	w := m.walk(r, nil, rank, seq)
	x, err := w.next()
	if err != nil || x == nil || seq < r.ranks[rank].first {
		return err
	}
	at := x.above(seq - 1)
	it := x.items[at]
	if it.seq != seq {
		return nil
	}
	m.closeWindows(r, rank)
	m.dropDeadline(r, rank, &it)
	m.eff.delete(m.keyRun(r.id, rank, x.last()))
	rest := *x
	rest.items = append(append([]runItem(nil), x.items[x.above(r.ranks[rank].first-1):at]...), x.items[at+1:]...)
	if len(rest.items) > 0 {
		m.storeRun(r, rank, &rest)
	} else {
		m.dropSpill(x.index, x.base)
	}
	var t tally
	t.add(&it)
	m.forget(r, rank, t)
	if s := &r.ranks[rank]; s.first == seq {
		return m.findFirst(r, rank, rest.items)
	}
	return nil
}

// findFirst sets where a priority begins, after its first packet went from it. rest
// is what is left of that one's run.
func (m *Machine) findFirst(r *repo, rank Rank, rest []runItem) error {
	s := &r.ranks[rank]
	if s.count > 0 && len(rest) == 0 {
		h, err := m.itemAfter(r, nil, rank, s.first)
		if err != nil {
			return err
		}
		s.first = h.item.seq
	} else if len(rest) > 0 {
		s.first = rest[0].seq
	}
	return nil
}
