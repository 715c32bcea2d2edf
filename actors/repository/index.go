package repository

import "github.com/waystation/waystation/internal/invariant"

// The runnable index has a lane exactly if something waits in it and nobody holds
// its lease. It is written once an entry, for the lanes that the entry touched: a
// lane that is settled and granted again by one entry never leaves its lease.

// touched is a lane, or only a repository, that the entry has changed or must look
// at again.
type touched struct {
	g *group
	r *repo
	l *lane // nil: only the repository
}

func (m *Machine) touch(g *group, r *repo, l *lane) {
	if !l.touched {
		l.touched = true
		m.touched = append(m.touched, touched{g, r, l})
	}
}

func (m *Machine) touchRepo(r *repo) {
	if !r.touched {
		r.touched = true
		m.touched = append(m.touched, touched{r: r})
	}
}

// flush writes what the entry has changed of lanes and repositories so far.
func (m *Machine) flush() error {
	for i := range m.touched {
		t := m.touched[i]
		if t.l == nil {
			m.storeRepo(t.r)
			continue
		}
		if err := m.storeLane(t.g, t.r, t.l); err != nil {
			return err
		}
	}
	clear(m.touched)
	m.touched = m.touched[:0]
	return nil
}

func (m *Machine) storeLane(g *group, r *repo, l *lane) error {
	l.touched = false
	if l.fresh && !l.dirty {
		l.begin(g, r)
	}
	if err := m.reindex(g, r, l); err != nil {
		return err
	}
	if l.leased != l.token {
		if l.token != 0 && !invariant.Broken(invariant.LeasesLost) {
			m.vbuf = appendLease(m.vbuf[:0], l)
			m.eff.setKnown(l.leased != 0, m.keyLease(g.cfg.ID, r.id), m.vbuf)
		} else {
			m.eff.delete(m.keyLease(g.cfg.ID, r.id))
		}
		l.leased, l.dirty = l.token, true
	}
	if l.dirty {
		m.vbuf = l.append(m.vbuf[:0])
		m.eff.set(m.keyLane(g.cfg.ID, r.id), m.vbuf)
		l.dirty, l.fresh = false, false
	}
	return nil
}

// waits says whether the lane has something to do at a priority.
func waits(r *repo, l *lane, rank Rank) bool {
	return r.ranks[rank].last > l.cursors[rank] || l.again[rank] > 0
}

// headReady is when the first unsettled packet of a priority may be delivered.
func (m *Machine) headReady(g *group, r *repo, l *lane, rank Rank) (ms int64, err error) {
	if r.ranks[rank].delayed == 0 {
		return 0, nil
	}
	h, err := m.nextOf(g, r, l, rank, l.cursors[rank])
	return h.item.readyMs, err
}

// places is where a lane belongs in the index: at the highest priority that is
// ready, and nothing holds it; and at each higher one whose head is delayed, from when it is ready on.
func (m *Machine) places(g *group, r *repo, l *lane) (at [Ranks]int64, err error) {
	if l.held() {
		return at, nil
	}
	hold, soonest := l.hold(), int64(0)
	for k := range Rank(Ranks) {
		if !waits(r, l, k) {
			continue
		}
		ready, err := m.headReady(g, r, l, k)
		if err != nil {
			return at, err
		}
		ready = max(ready, hold)
		if ready <= m.logTimeMs {
			at[k] = max(m.logTimeMs, 1)
			break
		}
		if soonest == 0 || ready < soonest {
			at[k], soonest = ready, ready
		}
	}
	return at, nil
}

// reindex brings the lane's places in the index up to date. A place is written
// only when the lane turns runnable at a priority or stops being so: while it is
// ready it keeps its turn. The value says from when on a higher place counts.
func (m *Machine) reindex(g *group, r *repo, l *lane) error {
	var want [Ranks]int64
	if l.token == 0 {
		var err error
		if want, err = m.places(g, r, l); err != nil {
			return err
		}
	}
	was, will := int64(0), int64(0) // when a higher place takes over
	for k := range Rank(Ranks) {
		old, at := l.index[k], want[k]
		keeps := old != 0 && at != 0 && (old == at || max(old, at) <= m.logTimeMs)
		if keeps {
			at = old
		}
		if old != 0 && !keeps {
			m.eff.delete(m.keyRunnable(g.cfg.ID, k, old, r.id))
		}
		if at != 0 && (!keeps || was != will) {
			m.vbuf = m.vbuf[:0]
			if will != 0 {
				m.vbuf = appendU64(m.vbuf, uint64(will))
			}
			m.eff.setKnown(keeps, m.keyRunnable(g.cfg.ID, k, at, r.id), m.vbuf)
		}
		if at != 0 && !keeps {
			m.announce(g, r, k, at)
		}
		if old != 0 {
			was = old
		}
		if at != 0 {
			will = at
		}
		l.dirty = l.dirty || old != at
		l.index[k] = at
	}
	return nil
}

// announce tells the leader that a lane may run, now or later.
func (m *Machine) announce(g *group, r *repo, rank Rank, at int64) {
	event := LaneEvent{Group: g.cfg.ID, Repo: r.id, Rank: rank}
	if at > m.logTimeMs {
		event.ReadyMs = at
	}
	m.eff.Results.Lanes = append(m.eff.Results.Lanes, event)
}
