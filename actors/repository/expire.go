package repository

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// due is one entry of a time index: when, and what.
type due struct {
	at  int64
	key []byte
	id  []byte // the key behind the time
}

// collectDue lists at most limit entries of a time index up to now, in order.
func (m *Machine) collectDue(table byte, now int64, limit int) ([]due, error) {
	if now < 0 || limit == 0 {
		return nil, nil
	}
	lower := bytes.Clone(m.key(table))
	upper := bytes.Clone(appendU64(m.key(table), uint64(now)+1))
	var out []due
	err := m.scan(lower, upper, func(k, _ []byte) bool {
		c := bytes.Clone(k)
		out = append(out, due{at: int64(binary.BigEndian.Uint64(c[3:])), key: c, id: c[11:]})
		return len(out) < limit
	})
	return out, err
}

// expire ends packets whose time to live has passed, at most limit of them.
func (m *Machine) expire(limit int) error {
	list, err := m.collectDue(tableDeadline, m.logTimeMs, limit)
	if err != nil {
		return err
	}
	for i := range list {
		name, rest, ok := splitRepo(list[i].id)
		if !ok || len(rest) != 9 || rest[0] >= Ranks {
			return &CorruptError{list[i].key, "deadline index"}
		}
		r, err := m.loadRepo(name)
		if err != nil {
			return err
		}
		rank, seq := Rank(rest[0]), Seq(binary.BigEndian.Uint64(rest[1:]))
		keepMs, err := m.expirePacket(r, rank, seq)
		if err != nil {
			return err
		}
		m.eff.delete(list[i].key)
		if keepMs == 0 {
			m.eff.Results.Worked++
		} else { // look again
			m.eff.set(m.keyDeadline(m.logTimeMs+keepMs, r.id, rank, seq), nil)
		}
	}
	return nil
}

// expireHead ends the head of a lane that asks for a grant, because its time to
// live has passed.
func (m *Machine) expireHead(r *repo, l *lane, rank Rank, seq Seq) error {
	if _, err := m.expirePacket(r, rank, seq); err != nil {
		return err
	}
	if l.cursors[rank] < seq {
		return fmt.Errorf("expire packet %d of %q: it stays at the head", seq, r.id)
	}
	return nil
}

// expirePacket turns a packet into a dead letter of every group that has not
// settled it. What exempts it does so for keepMs, when it is to be looked at again:
// then only groups whose head it is have buried it.
func (m *Machine) expirePacket(r *repo, rank Rank, seq Seq) (keepMs int64, err error) {
	if seq < r.ranks[rank].first {
		return m.expireAgain(r, rank, seq)
	}
	h, err := m.itemAfter(r, nil, rank, seq-1)
	if err != nil {
		return 0, err
	}
	if h.item.seq != seq {
		return m.expireAgain(r, rank, seq)
	}
	exempt, err := m.exempt(r, rank, seq)
	if err != nil {
		return 0, err
	}
	buried := 0
	for _, g := range m.groups {
		l, err := m.loadLane(g, r)
		if err != nil {
			return 0, err
		}
		if l.cursors[rank] >= seq || l.exempts(rank, seq) != 0 {
			continue
		}
		done, err := m.expireIn(g, r, l, rank, &h, exempt != 0)
		if err != nil {
			return 0, err
		}
		if done {
			buried++
		}
	}
	if exempt != 0 {
		return exempt, nil
	}
	if buried == 0 {
		m.eff.Results.Dropped++ // nobody ever asked for it
	}
	// No lane is emptied by this: whoever had nothing before the packet has passed it.
	return 0, m.dropOne(r, rank, seq)
}

// exempt says for how long a packet must not end by itself, because of any group's
// lane.
func (m *Machine) exempt(r *repo, rank Rank, seq Seq) (forMs int64, err error) {
	for _, g := range m.groups {
		l, err := m.loadLane(g, r)
		if err != nil {
			return 0, err
		}
		forMs = max(forMs, l.exempts(rank, seq))
	}
	return forMs, nil
}

// expireIn buries an expired packet in one group: passed, if it is the lane's head,
// else to be removed from the lane's midst. While a grant of another group exempts
// it from that, it is looked at again later.
func (m *Machine) expireIn(g *group, r *repo, l *lane, rank Rank, h *headOf, exempt bool) (done bool, err error) {
	first, err := m.nextOf(g, r, l, rank, l.cursors[rank])
	if err != nil {
		return false, err
	}
	if first.item.seq == h.item.seq {
		known := l.heads[rank].of(h.item.seq)
		m.bury(g, r, rank, h, ReasonExpired, &known)
		return true, m.pass(g, r, l, rank, h.item.seq)
	}
	if exempt {
		return false, nil
	}
	m.bury(g, r, rank, h, ReasonExpired, &head{seq: h.item.seq})
	g.waiting[rank] -= min(1, g.waiting[rank])
	return true, nil
}
