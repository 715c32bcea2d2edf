package repository

import (
	"encoding/binary"
	"fmt"
)

// deadRecord is a dead letter: where the packet lies, and why it ended here.
type deadRecord struct {
	reason   Reason
	rank     Rank
	attempts uint32
	atMs     int64
	accepted int64
	of       Seq // the dead letter that it was redriven from; 0: it was published
	ref      Ref
	failures failures
}

func (x *deadRecord) append(b []byte) []byte {
	b = append(b, version1, byte(x.reason), byte(x.rank))
	b = binary.AppendUvarint(b, uint64(x.attempts))
	b = binary.AppendUvarint(b, uint64(x.atMs))
	b = binary.AppendUvarint(b, uint64(x.accepted))
	b = binary.AppendUvarint(b, uint64(x.of))
	b = x.ref.append(b)
	return x.failures.append(b)
}

func (x *deadRecord) decode(b []byte) error {
	d := decoder{b: b}
	if v := d.byte(); d.err == nil && v != version1 {
		return fmt.Errorf("unknown version %d", v)
	}
	x.reason, x.rank = Reason(d.byte()), Rank(d.byte())
	x.attempts, x.atMs, x.accepted = uint32(d.uvarint()), int64(d.uvarint()), int64(d.uvarint())
	x.of = Seq(d.uvarint())
	x.ref.decode(&d)
	x.failures.decode(&d)
	if d.err == nil && x.rank >= Ranks {
		return fmt.Errorf("rank %d", x.rank)
	}
	return d.err
}

// bury makes a packet the group's dead letter; h is what is known of its attempts.
// The caller moves the cursor.
func (m *Machine) bury(g *group, r *repo, rank Rank, x *headOf, reason Reason, h *head) {
	seq := x.item.seq
	dead := deadRecord{
		reason: reason, rank: rank, attempts: h.attempts, atMs: m.logTimeMs, accepted: x.acceptedMs,
		of: x.of, ref: x.ref, failures: h.failures,
	}
	m.vbuf = dead.append(m.vbuf[:0])
	m.eff.set(m.keyDead(g.cfg.ID, r.id, seq), m.vbuf)
	m.eff.set(m.keyDeadAge(m.logTimeMs, g.cfg.ID, r.id, seq), nil)
	m.refer(&x.ref, payloadDead, g.cfg.ID, r.id, seq)
	m.rescue(x.ref)
	g.dead++
	g.dirty = true
	m.eff.Results.ended(g.cfg.ID, reason, 1)
}

// loadDead reads a dead letter; ok is false if there is none.
func (m *Machine) loadDead(gid GroupID, repo string, seq Seq) (x deadRecord, ok bool, err error) {
	key := m.keyDead(gid, repo, seq)
	v, ok, err := m.get(key)
	if err != nil || !ok {
		return x, false, err
	}
	if err := x.decode(v); err != nil {
		return x, false, &CorruptError{cloneKey(key), err.Error()}
	}
	return x, true, nil
}

// unbury deletes a dead letter. What it refers to stays if something else refers
// to it too.
func (m *Machine) unbury(g *group, repo string, seq Seq, x *deadRecord) {
	m.eff.delete(m.keyDead(g.cfg.ID, repo, seq))
	m.eff.delete(m.keyDeadAge(x.atMs, g.cfg.ID, repo, seq))
	m.release(&x.ref, payloadDead, g.cfg.ID, repo, seq)
	g.dead -= min(1, g.dead)
	g.dirty = true
}

// sweepDead deletes dead letters past their own retention.
func (m *Machine) sweepDead(limit int) error {
	list, err := m.collectDue(tableDeadAge, m.logTimeMs-int64(m.cfg.DeadRetentionMs), limit)
	if err != nil {
		return err
	}
	for i := range list {
		id := list[i].id
		if len(id) < 4+2+8 {
			return &CorruptError{list[i].key, "dead letter age index"}
		}
		name, rest, ok := splitRepo(id[4:])
		if !ok || len(rest) != 8 {
			return &CorruptError{list[i].key, "dead letter age index"}
		}
		m.eff.delete(list[i].key)
		m.eff.Results.Worked++
		m.eff.Results.Dropped++
		gid := GroupID(binary.BigEndian.Uint32(id))
		g := m.group(gid)
		if g == nil {
			if g = m.deleted(gid); g == nil {
				continue
			}
			if err := m.sweepDeleted(g, string(name), Seq(binary.BigEndian.Uint64(rest))); err != nil {
				return err
			}
			continue
		}
		if _, err := m.discard(g, string(name), Seq(binary.BigEndian.Uint64(rest))); err != nil {
			return err
		}
	}
	return nil
}

// sweepDeleted deletes a dead letter of a deleted group, whose lanes nobody looks at.
func (m *Machine) sweepDeleted(g *group, repo string, seq Seq) error {
	x, ok, err := m.loadDead(g.cfg.ID, repo, seq)
	if err == nil && ok {
		m.unbury(g, repo, seq, &x)
	}
	return err
}

// deadOf loads a dead letter with its lane; x is nil if there is none.
func (m *Machine) deadOf(g *group, name string, seq Seq) (x *deadRecord, r *repo, l *lane, err error) {
	dead, ok, err := m.loadDead(g.cfg.ID, name, seq)
	if err != nil || !ok {
		return nil, nil, nil, err
	}
	if r, err = m.loadRepo([]byte(name)); err != nil {
		return nil, nil, nil, err
	}
	l, err = m.loadLane(g, r)
	return &dead, r, l, err
}

// discard deletes a dead letter, and lets the lane that it holds go on.
func (m *Machine) discard(g *group, repo string, seq Seq) (done bool, err error) {
	x, r, l, err := m.deadOf(g, repo, seq)
	if err != nil || x == nil {
		return false, err
	}
	m.unbury(g, repo, seq, x)
	if l.blocked != seq {
		return true, nil
	}
	l.blocked = 0
	return true, m.pass(g, r, l, l.blockedIn, seq)
}

// revive gives a dead letter another life: where it holds its lane under its old
// number, else at the lane's end under a new one.
func (m *Machine) revive(g *group, repo string, seq Seq) (done bool, err error) {
	x, r, l, err := m.deadOf(g, repo, seq)
	if err != nil || x == nil {
		return false, err
	}
	if l.blocked == seq {
		l.blocked, l.heads[l.blockedIn], l.dirty = 0, head{}, true
		m.touch(g, r, l)
	} else {
		m.redrive(g, r, l, x, seq)
	}
	m.unbury(g, repo, seq, x)
	return true, nil
}
