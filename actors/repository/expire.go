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
		done, err := m.expirePacket(r, rank, seq)
		if err != nil {
			return err
		}
		m.eff.delete(list[i].key)
		if done {
			m.eff.Results.Worked++
		} else { // under a grant: look again in a second
			m.eff.set(m.keyDeadline(m.logTimeMs+second, r.id, rank, seq), nil)
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
// settled it. A live grant exempts it until that ends: then done is false, and
// only groups whose head it is have buried it.
func (m *Machine) expirePacket(r *repo, rank Rank, seq Seq) (done bool, err error) {
	if seq < r.ranks[rank].first {
		return true, nil
	}
	h, err := m.itemAfter(r, nil, rank, seq-1)
	if err != nil || h.item.seq != seq {
		return true, err
	}
	exempt, err := m.leasedByAny(r, rank, seq)
	if err != nil {
		return false, err
	}
	buried := 0
	for _, g := range m.groups {
		l, err := m.loadLane(g, r)
		if err != nil {
			return false, err
		}
		if l.cursors[rank] >= seq || l.covers(rank, seq) {
			continue
		}
		done, err := m.expireIn(g, r, l, rank, &h, exempt)
		if err != nil {
			return false, err
		}
		if done {
			buried++
		}
	}
	if exempt {
		return false, nil
	}
	if buried == 0 {
		m.eff.Results.Dropped++ // nobody ever asked for it
	}
	// No lane is emptied by this: whoever had nothing before the packet has passed it.
	return true, m.dropOne(r, rank, seq)
}

// leasedByAny says whether a live grant of any group holds the packet.
func (m *Machine) leasedByAny(r *repo, rank Rank, seq Seq) (bool, error) {
	for _, g := range m.groups {
		l, err := m.loadLane(g, r)
		if err != nil || l.covers(rank, seq) {
			return true, err
		}
	}
	return false, nil
}

// expireIn buries an expired packet in one group: passed, if it is the lane's head,
// else to be removed from the lane's midst. While a grant of another group exempts
// it from that, it is looked at again later.
func (m *Machine) expireIn(g *group, r *repo, l *lane, rank Rank, h *headOf, exempt bool) (done bool, err error) {
	head, err := m.itemAfter(r, l, rank, l.cursors[rank])
	if err != nil {
		return false, err
	}
	if head.item.seq == h.item.seq {
		attempts, text := l.heads[rank].of(h.item.seq)
		m.bury(g, r, rank, h, ReasonExpired, attempts, text)
		return true, m.pass(g, r, l, rank, h.item.seq)
	}
	if exempt {
		return false, nil
	}
	m.bury(g, r, rank, h, ReasonExpired, 0, "")
	g.waiting[rank] -= min(1, g.waiting[rank])
	return true, nil
}

// of is what is known of the packet.
func (h *head) of(seq Seq) (attempts uint32, text string) {
	if h.seq != seq {
		return 0, ""
	}
	return h.attempts, h.lastError
}
