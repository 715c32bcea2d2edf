package repository

// sweep ends what is older than its retention, at most limit packets and limit
// dead letters.
func (m *Machine) sweep(limit int) error {
	until := m.logTimeMs - int64(m.cfg.RetentionMs)
	if m.overBytes() {
		until = m.logTimeMs // the oldest go, whatever their age
	}
	list, err := m.collectDue(tableAge, until, limit)
	if err != nil {
		return err
	}
	left := limit
	for i := range list {
		if left <= 0 {
			break
		}
		name, rest, ok := splitRepo(list[i].id)
		if !ok || len(rest) != 0 {
			return &CorruptError{list[i].key, "age index"}
		}
		r, err := m.loadRepo(name)
		if err != nil {
			return err
		}
		ended, err := m.sweepRepo(r, &list[i], left)
		if err != nil {
			return err
		}
		left -= max(ended, 1)
		m.eff.Results.Worked += max(ended, 1)
	}
	return m.sweepDead(limit)
}

// sweepSlice is how many packets of one repository end at a time when bytes are
// the reason: its oldest first, then the next repository's.
const sweepSlice = 64

// overBytes says whether the partition keeps more than its retention allows.
func (m *Machine) overBytes() bool {
	return m.cfg.RetentionBytes > 0 && m.stats.bytes > m.cfg.RetentionBytes
}

// sweepRepo ends at most limit of a repository's old packets, and moves its entry
// in the age index to the oldest one that is left.
func (m *Machine) sweepRepo(r *repo, at *due, limit int) (ended int, err error) {
	if m.overBytes() {
		limit = min(limit, sweepSlice)
	}
	oldest := m.logTimeMs
	for rank := range Rank(Ranks) {
		n, next, err := m.sweepRank(r, rank, limit-ended)
		if err != nil {
			return 0, err
		}
		ended += n
		oldest = min(oldest, next)
	}
	m.eff.delete(at.key)
	r.aged = 0
	if r.count() > 0 {
		r.aged = oldest
		if ended == limit {
			r.aged = at.at // the limit ended the walk: more may be due
		}
		m.eff.set(m.keyAge(r.aged, r.id), nil)
	}
	m.touchRepo(r)
	return ended, nil
}

// sweepRank ends at most limit of a priority's oldest packets. It answers which
// place in the age index the first one has that stays; now if there is none.
func (m *Machine) sweepRank(r *repo, rank Rank, limit int) (ended int, oldest int64, err error) {
	s := &r.ranks[rank]
	if s.count == 0 {
		return 0, m.logTimeMs, nil
	}
	// Ending packets walks too: this walk has a window of its own.
	w := m.walk(r, nil, rank, s.first)
	w.win = &m.sweeping
	w.win.reset(s.first)
	for {
		x, err := w.next()
		if err != nil || x == nil {
			return ended, m.logTimeMs, err
		}
		for i := x.above(s.first - 1); i < len(x.items); i++ {
			if ended == limit {
				return ended, m.logTimeMs, nil
			}
			s.first = x.items[i].seq // nothing retained lies below it
			place, err := m.retire(r, rank, x, i)
			if err != nil {
				return ended, 0, err
			}
			if place != 0 {
				m.touchRepo(r)
				return ended, place, nil
			}
			ended++
		}
	}
}

// retire ends the oldest packet of a priority if it is past its retention: a dead
// letter of each group that has not settled it. If it stays, place is where in the
// age index, so that it is looked at again.
func (m *Machine) retire(r *repo, rank Rank, x *run, i int) (place int64, err error) {
	if x.acceptedMs+int64(m.cfg.RetentionMs) > m.logTimeMs && !m.overBytes() {
		return x.acceptedMs, nil
	}
	h := x.head(i)
	seq := h.item.seq
	if forMs, err := m.exemptThrough(r, rank, seq); forMs != 0 || err != nil {
		return max(x.acceptedMs, m.logTimeMs-int64(m.cfg.RetentionMs)+forMs), err
	}
	asked := false
	for _, g := range m.groups {
		l, err := m.loadLane(g, r)
		if err != nil {
			return 0, err
		}
		if l.cursors[rank] >= seq {
			continue
		}
		asked = true
		if err := m.retireIn(g, r, l, rank, &h); err != nil {
			return 0, err
		}
	}
	if !asked { // and so nobody has dropped it
		m.eff.Results.Dropped++
		m.dropFirst(r, rank, x, &h.item)
	}
	return 0, nil
}

// exemptThrough is exempt for a packet with all that was redriven before it. A lane
// holds the first of that, or nothing of it.
func (m *Machine) exemptThrough(r *repo, rank Rank, seq Seq) (forMs int64, err error) {
	if forMs, err = m.exempt(r, rank, seq); forMs != 0 || err != nil {
		return forMs, err
	}
	for _, g := range m.groups {
		l, err := m.loadLane(g, r)
		if err != nil {
			return 0, err
		}
		if l.again[rank] == 0 {
			continue
		}
		list, err := m.redriven(g, r, rank, 0, 1)
		if err != nil {
			return 0, err
		}
		if len(list) > 0 && list[0].seq < seq {
			forMs = max(forMs, l.exempts(rank, list[0].seq))
		}
	}
	return forMs, nil
}

// retireIn ends a packet in one lane, and what was redriven before it was accepted.
func (m *Machine) retireIn(g *group, r *repo, l *lane, rank Rank, h *headOf) error {
	for l.again[rank] > 0 {
		list, err := m.redriven(g, r, rank, 0, 1)
		if err != nil {
			return err
		}
		if len(list) == 0 || list[0].seq > h.item.seq {
			break
		}
		if err := m.endAgain(g, r, l, rank, &list[0], ReasonRetention); err != nil {
			return err
		}
	}
	known := l.heads[rank].of(h.item.seq)
	m.bury(g, r, rank, h, ReasonRetention, &known)
	return m.pass(g, r, l, rank, h.item.seq)
}
