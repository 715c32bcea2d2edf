package sim

import (
	"github.com/waystation/waystation/storage"
)

// durable checks, when a packet is to be acknowledged, that a majority has its
// entry synced: of the voters under one of the last configurations, because one
// takes effect when it is applied.
func (o *oracle) durable(g *group, index, term uint64) {
	t := o.groups[g.id]
	if o.onMajority(g.id, index, term) || index <= t.heldTo || t.held[[2]uint64{index, term}] {
		return
	}
	o.w.violate("entry %d of group %d is acknowledged, and not synced on a majority of %v", index, g.id, t.conf)
}

func (o *oracle) onMajority(g storage.GroupID, index, term uint64) bool {
	for _, c := range o.groups[g].recent() {
		if o.majority(g, c.Voters, index, term) && o.majority(g, c.Outgoing, index, term) {
			return true
		}
	}
	return false
}

func (o *oracle) majority(g storage.GroupID, voters []storage.ReplicaID, index, term uint64) bool {
	have := 0
	for _, id := range voters {
		i := o.w.machineWith(id)
		if i == 0 {
			continue
		}
		if m := o.w.nodes[i].disk[g]; m != nil && m.id == id && m.synced.has(index, term) {
			have++
		}
	}
	return have > len(voters)/2 || len(voters) == 0
}

// reset follows a log that is put aside for a snapshot.
func (o *oracle) reset(g *group, to storage.Position, hs storage.HardState, entries []storage.Entry) {
	m := g.life.disk[g.id]
	m.hard = hs
	m.written = terms{truncated: to.Index}
	for _, e := range entries {
		m.written.list = append(m.written.list, e.Term)
	}
}

// wrote follows what a node's log has.
func (o *oracle) wrote(n *node, it *logItem) {
	g := it.group.id
	m := n.disk[g]
	if it.job == nil {
		m.written.cutTo(it.truncate.Index)
		return
	}
	if it.job.HardState != nil {
		m.hard = *it.job.HardState
	}
	for _, e := range it.job.Entries {
		at := e.Index - m.written.truncated - 1
		if at > uint64(len(m.written.list)) {
			o.w.violate("node %d wrote entry %d of group %d behind %d", n.id, e.Index, g, m.written.truncated+uint64(len(m.written.list)))
		}
		m.written.list = append(append([]uint64(nil), m.written.list[:at]...), e.Term)
		key, data := [2]uint64{e.Index, e.Term}, hashOf(e.Data)
		if known, ok := o.groups[g].logged[key]; ok && known != data {
			o.w.violate("node %d wrote another entry %d of term %d into group %d than another node", n.id, e.Index, e.Term, g)
		}
		o.groups[g].logged[key] = data
	}
}

func (t *terms) cutTo(index uint64) {
	if index <= t.truncated {
		return
	}
	n := min(index-t.truncated, uint64(len(t.list)))
	t.truncated, t.list = index, append([]uint64(nil), t.list[n:]...)
}

// started checks what a node found on its disk.
func (o *oracle) started(n *node, g *group) {
	l, t := g.life, o.groups[g.id]
	first, last := l.logs.Bounds(g.id)
	m := &mirror{id: g.replica, written: terms{truncated: first - 1}}
	before := l.logs.Truncated(g.id).Term
	for i := first; i <= last; i++ {
		ents, err := l.logs.Entries(g.id, i, i+1, 0)
		o.w.must(err)
		e := &ents[0]
		if e.Term < before {
			o.w.violate("node %d: entry %d of group %d has term %d behind term %d", n.id, i, g.id, e.Term, before)
		}
		if t.logged[[2]uint64{i, e.Term}] != hashOf(e.Data) {
			o.w.violate("node %d: entry %d of group %d is not what was written", n.id, i, g.id)
		}
		before = e.Term
		m.written.list = append(m.written.list, e.Term)
	}
	m.synced = m.written
	var err error
	m.hard, err = l.logs.HardState(g.id)
	o.w.must(err)
	m.promised = m.hard
	if was := n.disk[g.id]; was != nil && was.id == g.replica {
		o.kept(n, g, was, m)
	}
	n.disk[g.id] = m
	o.verify(g)
}

// kept checks that a replica which starts has not forgotten what it promised: its
// vote, and the entries that it said to have.
func (o *oracle) kept(n *node, g *group, was, is *mirror) {
	a, b := was.promised, is.hard
	if b.Term < a.Term || b.Term == a.Term && a.Vote != 0 && b.Vote != a.Vote {
		o.w.violate("node %d: the replica of group %d had voted for %d in term %d, and now knows of %d in term %d", n.id, g.id, a.Vote, a.Term, b.Vote, b.Term)
	}
	x, y := was.synced, is.written
	if len(x.list) == 0 {
		return
	}
	last := x.truncated + uint64(len(x.list))
	term := x.list[len(x.list)-1]
	overwritten := len(y.list) > 0 && y.list[len(y.list)-1] > term || b.Term > term && y.overwrote(x)
	if !overwritten && !y.has(last, term) {
		o.w.violate("node %d: the replica of group %d had entry %d of term %d, and has it no more", n.id, g.id, last, term)
	}
}
