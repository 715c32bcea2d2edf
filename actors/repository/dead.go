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
	ref      Ref
	text     string
}

func (x *deadRecord) append(b []byte) []byte {
	b = append(b, version1, byte(x.reason), byte(x.rank))
	b = binary.AppendUvarint(b, uint64(x.attempts))
	b = binary.AppendUvarint(b, uint64(x.atMs))
	b = binary.AppendUvarint(b, uint64(x.accepted))
	b = binary.AppendUvarint(b, x.ref.Index)
	b = binary.AppendUvarint(b, uint64(x.ref.Base))
	b = binary.AppendUvarint(b, uint64(x.ref.Offset))
	b = binary.AppendUvarint(b, uint64(x.ref.Length))
	b = binary.LittleEndian.AppendUint32(b, x.ref.CRC)
	return appendBytes(b, x.text)
}

func (x *deadRecord) decode(b []byte) error {
	d := decoder{b: b}
	if v := d.byte(); d.err == nil && v != version1 {
		return fmt.Errorf("unknown version %d", v)
	}
	x.reason, x.rank = Reason(d.byte()), Rank(d.byte())
	x.attempts, x.atMs, x.accepted = uint32(d.uvarint()), int64(d.uvarint()), int64(d.uvarint())
	x.ref = Ref{Index: d.uvarint(), Base: uint32(d.uvarint()), Offset: uint32(d.uvarint()), Length: uint32(d.uvarint())}
	x.ref.CRC = d.uint32()
	x.text = string(d.bytes())
	return d.err
}

// bury makes a packet the group's dead letter. The caller moves the cursor.
func (m *Machine) bury(g *group, r *repo, rank Rank, h *headOf, reason Reason, attempts uint32, text string) {
	x := deadRecord{
		reason: reason, rank: rank, attempts: attempts, atMs: m.logTimeMs, accepted: h.acceptedMs,
		ref: h.ref, text: text,
	}
	m.vbuf = x.append(m.vbuf[:0])
	m.eff.set(m.keyDead(g.cfg.ID, r.id, h.item.seq), m.vbuf)
	m.eff.set(m.keyDeadAge(m.logTimeMs, g.cfg.ID, r.id, h.item.seq), nil)
	m.eff.set(m.keyDeadRef(h.ref.Index, g.cfg.ID, r.id, h.item.seq), nil)
	m.rescue(h.ref)
	g.dead++
	g.dirty = true
	m.eff.Results.ended(g.cfg.ID, reason, 1)
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
		gid := GroupID(binary.BigEndian.Uint32(id))
		name, rest, ok := splitRepo(id[4:])
		if !ok || len(rest) != 8 {
			return &CorruptError{list[i].key, "dead letter age index"}
		}
		m.eff.delete(list[i].key)
		if err := m.exhume(gid, string(name), Seq(binary.BigEndian.Uint64(rest))); err != nil {
			return err
		}
		m.eff.Results.Worked++
		m.eff.Results.Dropped++
	}
	return nil
}

// exhume deletes a dead letter and what it refers to.
func (m *Machine) exhume(gid GroupID, repo string, seq Seq) error {
	key := cloneKey(m.keyDead(gid, repo, seq))
	v, ok, err := m.get(key)
	if err != nil || !ok {
		return err
	}
	var x deadRecord
	if err := x.decode(v); err != nil {
		return &CorruptError{key, err.Error()}
	}
	m.eff.delete(key)
	m.eff.delete(m.keyDeadRef(x.ref.Index, gid, repo, seq))
	if x.ref.Index <= m.spilled && !m.sharedDead(gid, x.ref, repo, seq) {
		m.eff.delete(m.keySpill(x.ref.Index, x.ref.Offset, spillSingle))
	}
	if g := m.group(gid); g != nil && g.dead > 0 {
		g.dead--
		g.dirty = true
	}
	return nil
}

// sharedDead says whether another group's dead letter refers to the same packet.
func (m *Machine) sharedDead(gid GroupID, ref Ref, repo string, seq Seq) bool {
	for _, g := range m.groups {
		if g.cfg.ID == gid {
			continue
		}
		if _, ok, err := m.get(m.keyDeadRef(ref.Index, g.cfg.ID, repo, seq)); ok || err != nil {
			return true
		}
	}
	return false
}
