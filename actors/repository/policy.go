package repository

import (
	"bytes"
	"encoding/binary"
)

// afterDeath does to a lane what the group's policy says, after its head failed for
// good.
func (m *Machine) afterDeath(g *group, r *repo, l *lane, seq Seq) error {
	switch g.cfg.OrderPolicy {
	case OrderBlock: // its cursor stays below the dead packet
		l.blocked, l.blockedIn, l.dirty = seq, l.rank, true
		m.touch(g, r, l)
		return nil
	case OrderPark:
		if err := m.pass(g, r, l, l.rank, seq); err != nil {
			return err
		}
		return m.park(g, r, l)
	}
	return m.pass(g, r, l, l.rank, seq)
}

// parkSlice is how many packets are parked at once with the dead letter: most lanes
// have no more.
const parkSlice = 16

// park makes dead letters of all that waits in a lane by now, a part of it later.
func (m *Machine) park(g *group, r *repo, l *lane) error {
	l.parkTo, l.dirty = r.head, true
	m.eff.set(m.keyParking(g.cfg.ID, r.id), nil)
	m.touch(g, r, l)
	_, err := m.parkLane(g, r, l, parkSlice)
	return err
}

// parkSome goes on with lanes that are being parked, by at most limit packets.
func (m *Machine) parkSome(limit int) error {
	lower := bytes.Clone(m.key(tableParking))
	var keys [][]byte
	err := m.scan(lower, keyAfter(lower), func(k, _ []byte) bool {
		keys = append(keys, bytes.Clone(k))
		return len(keys) < limit
	})
	if err != nil {
		return err
	}
	left := limit
	for _, k := range keys {
		if left <= 0 {
			break
		}
		name, rest, ok := splitRepo(k[7:])
		g := m.group(GroupID(binary.BigEndian.Uint32(k[3:])))
		if !ok || len(rest) != 0 {
			return &CorruptError{k, "parking table"}
		}
		if g == nil { // it was deleted: what it parked goes with it
			m.eff.delete(k)
			left--
			m.eff.Results.Worked++
			continue
		}
		r, err := m.loadRepo(name)
		if err != nil {
			return err
		}
		l, err := m.loadLane(g, r)
		if err != nil {
			return err
		}
		n, err := m.parkLane(g, r, l, left)
		if err != nil {
			return err
		}
		left -= max(n, 1)
		m.eff.Results.Worked += max(n, 1)
	}
	return nil
}

// parkLane buries at most limit packets of a lane that is being parked.
func (m *Machine) parkLane(g *group, r *repo, l *lane, limit int) (n int, err error) {
	for rank := range Rank(Ranks) {
		for {
			x, err := m.nextOf(g, r, l, rank, l.cursors[rank])
			if err != nil {
				return n, err
			}
			if x.item.seq == 0 || x.item.seq > l.parkTo {
				break
			}
			if n == limit {
				return n, nil
			}
			known := l.heads[rank].of(x.item.seq)
			m.bury(g, r, rank, &x, ReasonParked, &known)
			if err := m.pass(g, r, l, rank, x.item.seq); err != nil {
				return n, err
			}
			n++
		}
	}
	l.parkTo, l.dirty = 0, true
	m.eff.delete(m.keyParking(g.cfg.ID, r.id))
	m.touch(g, r, l)
	return n, nil
}
