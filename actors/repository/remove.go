package repository

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// A group that is deleted is nobody's from that entry on: it asks for nothing, grants
// and settlements are refused, and no other group waits for it. What it leaves
// behind goes afterwards, a bounded part with each entry.

// removal says how far the removal of a deleted group is.
type removal struct {
	since uint64 // the entry that deleted the group; 0: it lives
	step  removalStep
	after []byte // what follows the step's prefix in the last key that is done
}

type removalStep uint8

// The steps. They are stored: never renumber.
const (
	removeLanes removalStep = iota // and the packets that only they retained
	removeDead
	removeAgain
	removeResults
	removeLaneRecords
	removeRunnable
	removeLeases
	removeParking
	removed
)

func (x *removal) append(b []byte) []byte {
	b = binary.AppendUvarint(b, x.since)
	if x.since != 0 {
		b = appendBytes(append(b, byte(x.step)), x.after)
	}
	return b
}

func (x *removal) decode(d *decoder) {
	if x.since = d.uvarint(); x.since != 0 {
		x.step, x.after = removalStep(d.byte()), bytes.Clone(d.bytes())
	}
	if x.step >= removed {
		d.fail()
	}
}

// table is what a step removes from.
func (s removalStep) table() byte {
	switch s {
	case removeDead:
		return tableDead
	case removeAgain:
		return tableAgain
	case removeLaneRecords:
		return tableLane
	case removeRunnable:
		return tableRunnable
	case removeLeases:
		return tableLease
	}
	return tableParking
}

// AddDropGroup deletes a group; one that the partition does not have is none.
func (e *EntryBuilder) AddDropGroup(g GroupID) {
	e.begin(cmdDropGroup)
	e.b = binary.AppendUvarint(e.b, uint64(g))
	e.end()
}

// AddRemove removes what deleted groups left, about limit packets and records.
func (e *EntryBuilder) AddRemove(limit uint32) { e.addLimit(cmdRemove, limit) }

// dropGroup takes a group from those that live.
func (m *Machine) dropGroup(body []byte) error {
	d := decoder{b: body}
	id := GroupID(d.uvarint())
	if d.err != nil {
		return fmt.Errorf("decode deletion of a group: %w", d.err)
	}
	g := m.group(id)
	if g == nil {
		return nil
	}
	if err := m.flush(); err != nil { // what this entry changed of its lanes
		return err
	}
	g.removal, g.dirty = removal{since: m.index}, true
	for i := range m.groups {
		if m.groups[i] == g {
			m.groups = append(m.groups[:i:i], m.groups[i+1:]...)
			break
		}
	}
	m.doomed = append(m.doomed, g)
	return nil
}

// deleted finds a group that is being removed.
func (m *Machine) deleted(id GroupID) *group {
	for _, g := range m.doomed {
		if g.cfg.ID == id {
			return g
		}
	}
	return nil
}

// remove goes on with the removal of deleted groups.
func (m *Machine) remove(limit int) error {
	// What this entry has done so far must be in the tables that are read now.
	if err := m.flush(); err != nil {
		return err
	}
	for left := limit; left > 0 && len(m.doomed) > 0; {
		g := m.doomed[0]
		n, done, err := m.removeStep(g, left)
		if err != nil {
			return err
		}
		left -= max(n, 1)
		m.eff.Results.Worked += max(n, 1)
		g.dirty = true
		if !done {
			continue
		}
		g.removal.step, g.removal.after = g.removal.step+1, nil
		if g.removal.step == removed {
			m.doomed = append(m.doomed[:0:0], m.doomed[1:]...)
			m.eff.delete(m.keyGroup(g.cfg.ID))
		}
	}
	return nil
}

func (m *Machine) removeStep(g *group, limit int) (n int, done bool, err error) {
	switch g.removal.step {
	case removeLanes:
		return m.removeLanes(g, limit)
	case removeResults:
		return m.removeResults(g, limit)
	}
	prefix := bytes.Clone(appendU32(m.key(g.removal.step.table()), uint32(g.cfg.ID)))
	return m.removeRecords(g, prefix, prefix, limit)
}

// removeResults goes through the buckets. What they are in by then needs no look:
// nothing new is kept for a deleted group.
func (m *Machine) removeResults(g *group, limit int) (n int, done bool, err error) {
	table := bytes.Clone(m.key(tableResult))
	for i := range m.buckets {
		bucket := m.keyResultBucket(m.buckets[i].id)
		prefix := bytes.Clone(appendU32(bucket, uint32(g.cfg.ID)))
		if bytes.Compare(prefix[len(table):], g.removal.after[:min(8, len(g.removal.after))]) < 0 {
			continue
		}
		k, done, err := m.removeRecords(g, table, prefix, limit-n)
		if n += k; err != nil || !done {
			return n, false, err
		}
	}
	return n, true, nil
}

// removeRecords removes at most limit records of the keys that begin with prefix, from
// where the removal stands on; table is the prefix that its place leaves out.
func (m *Machine) removeRecords(g *group, table, prefix []byte, limit int) (n int, done bool, err error) {
	lower := prefix
	if x := g.removal.after; len(x) > 0 {
		if place := append(append(bytes.Clone(table), x...), 0); bytes.Compare(place, lower) > 0 {
			lower = place
		}
	}
	type record struct{ key, value []byte }
	var list []record
	err = m.scan(lower, keyAfter(prefix), func(k, v []byte) bool {
		if len(list) == limit {
			return false
		}
		list = append(list, record{bytes.Clone(k), bytes.Clone(v)})
		return true
	})
	if err != nil {
		return 0, false, err
	}
	for i := range list {
		x := &list[i]
		if err := m.removeRecord(g, x.key, x.value); err != nil {
			return 0, false, err
		}
		g.removal.after = append(g.removal.after[:0:0], x.key[len(table):]...)
	}
	return len(list), len(list) < limit, nil
}

// removeRecord deletes a record of a deleted group, and what points at it.
func (m *Machine) removeRecord(g *group, key, value []byte) error {
	switch g.removal.step {
	case removeDead:
		name, rest, ok := splitRepo(key[7:])
		var x deadRecord
		if err := x.decode(value); err != nil || !ok || len(rest) != 8 {
			return &CorruptError{key, "dead letter"}
		}
		m.unbury(g, string(name), Seq(binary.BigEndian.Uint64(rest)), &x)
	case removeAgain:
		name, rest, ok := splitRepo(key[7:])
		var x again
		if err := x.decode(value); err != nil || !ok || len(rest) != 9 || rest[0] >= Ranks {
			return &CorruptError{key, "redriven packet"}
		}
		x.seq = Seq(binary.BigEndian.Uint64(rest[1:]))
		m.eff.delete(key)
		m.eff.delete(m.keyDeadline(x.deadlineMs, string(name), Rank(rest[0]), x.seq))
		m.release(&x.ref, payloadAgain, g.cfg.ID, string(name), x.seq)
	default:
		m.eff.delete(key)
	}
	return nil
}

// removeLanes frees what only the group retained, repository by repository.
func (m *Machine) removeLanes(g *group, limit int) (n int, done bool, err error) {
	names, err := m.repoNames(g.removal.after, limit)
	if err != nil {
		return 0, false, err
	}
	for _, escaped := range names {
		if n >= limit {
			return n, false, nil
		}
		name, _, _ := splitRepo(escaped)
		r, err := m.loadRepo(name)
		if err != nil {
			return n, false, err
		}
		k, done, err := m.removeLane(g, r, limit-n)
		if n += max(k, 1); err != nil || !done {
			return n, false, err
		}
		g.removal.after = bytes.Clone(escaped)
	}
	return n, len(names) < limit, nil
}

// removeLane frees what only the group's lane of a repository retained, about limit
// packets of it.
func (m *Machine) removeLane(g *group, r *repo, limit int) (n int, done bool, err error) {
	l, err := m.loadLane(g, r)
	if err != nil {
		return 0, false, err
	}
	for rank := range Rank(Ranks) {
		k, done, err := m.removeRank(g, r, l, rank, limit-n)
		if n += k; err != nil {
			return n, false, err
		}
		if !done { // its cursors say how far it is
			m.vbuf = l.append(m.vbuf[:0])
			m.eff.set(m.keyLane(g.cfg.ID, r.id), m.vbuf)
			l.fresh, l.dirty = false, false
			return n, false, nil
		}
	}
	m.forgetLane(r, g.cfg.ID)
	return n, true, nil
}

// forgetLane takes a lane from what memory holds of a repository.
func (m *Machine) forgetLane(r *repo, id GroupID) {
	for i := range r.lanes {
		if r.lanes[i].group != id {
			continue
		}
		l := r.lanes[i].lane
		for _, w := range l.windows {
			if w != nil {
				m.repos.charge(r, -w.items*windowCost)
			}
		}
		m.repos.charge(r, -laneCost-len(l.session))
		r.lanes = append(r.lanes[:i:i], r.lanes[i+1:]...)
		return
	}
}

// removeRank frees a priority's packets that the group had not settled and every
// other group has; those above are the others', and those of later entries, and from
// before the group's start, never were the group's.
func (m *Machine) removeRank(g *group, r *repo, l *lane, rank Rank, limit int) (n int, done bool, err error) {
	s := &r.ranks[rank]
	if s.count == 0 {
		return 0, true, nil
	}
	low, err := m.lowestOther(g, r, rank)
	if err != nil {
		return 0, false, err
	}
	from := max(l.cursors[rank], s.first-1)
	whole := from == s.first-1 // nothing that is retained lies below
	var gone tally
	for w := m.walk(r, nil, rank, from+1); from < low && !done; {
		x, err := w.next()
		if err != nil {
			return n, false, err
		}
		if x == nil || x.index > g.removal.since {
			break
		}
		lo, hi := x.above(l.cursors[rank]), x.above(low)
		lo = max(lo, x.above(s.first-1))
		if lo >= hi {
			break
		}
		if n >= limit {
			break
		}
		for i := lo; i < hi; i++ {
			gone.add(&x.items[i])
			m.dropDeadline(r, rank, &x.items[i])
		}
		n += hi - lo
		l.cursors[rank] = x.items[hi-1].seq
		done = hi < len(x.items)
		m.cutRun(r, rank, x, x.items[x.above(s.first-1):lo], x.items[hi:])
	}
	if n == 0 {
		return 0, true, nil
	}
	m.closeWindows(r, rank)
	m.forget(r, rank, gone)
	if whole {
		s.first = l.cursors[rank] + 1
	}
	return n, done || n < limit, nil
}

// cutRun takes packets out of a run: what is left of it are those below and those
// above, which are copied.
func (m *Machine) cutRun(r *repo, rank Rank, x *run, below, above []runItem) {
	rest := *x
	rest.items = append(append([]runItem(nil), below...), above...)
	if len(rest.items) == 0 {
		m.dropRun(r, rank, x)
		return
	}
	if len(above) == 0 {
		m.eff.delete(m.keyRun(r.id, rank, x.last()))
	}
	m.storeRun(r, rank, &rest)
}
