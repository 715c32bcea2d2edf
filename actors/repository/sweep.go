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
		n, held, err := m.sweepRank(r, rank, limit-ended)
		if err != nil {
			return 0, err
		}
		ended += n
		oldest = min(oldest, held)
	}
	m.eff.delete(at.key)
	r.aged = 0
	if r.count() > 0 {
		// What a grant holds beyond its retention is looked at again in a second.
		r.aged = max(oldest, m.logTimeMs-int64(m.cfg.RetentionMs)+second)
		if ended == limit {
			r.aged = at.at // the limit ended the walk: more may be due
		}
		m.eff.set(m.keyAge(r.aged, r.id), nil)
	}
	m.touchRepo(r)
	return ended, nil
}

// sweepRank ends at most limit of a priority's oldest packets. It answers when the
// one was accepted that stays, or now if there is none.
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
			held, err := m.retire(r, rank, x, i)
			if err != nil {
				return ended, 0, err
			}
			if held {
				m.touchRepo(r)
				return ended, x.acceptedMs, nil
			}
			ended++
		}
	}
}

// retire ends the oldest packet of a priority if it is past its retention: a dead
// letter of each group that has not settled it. held says that it stays.
func (m *Machine) retire(r *repo, rank Rank, x *run, i int) (held bool, err error) {
	if x.acceptedMs+int64(m.cfg.RetentionMs) > m.logTimeMs && !m.overBytes() {
		return true, nil
	}
	h := x.head(i)
	seq := h.item.seq
	if leased, err := m.leasedByAny(r, rank, seq); leased || err != nil {
		return true, err
	}
	asked := false
	for _, g := range m.groups {
		l, err := m.loadLane(g, r)
		if err != nil {
			return false, err
		}
		if l.cursors[rank] >= seq {
			continue
		}
		asked = true
		attempts, text := l.heads[rank].of(seq)
		m.bury(g, r, rank, &h, ReasonRetention, attempts, text)
		if err := m.pass(g, r, l, rank, seq); err != nil {
			return false, err
		}
	}
	if !asked { // and so nobody has dropped it
		m.eff.Results.Dropped++
		m.dropFirst(r, rank, x, &h.item)
	}
	return false, nil
}
