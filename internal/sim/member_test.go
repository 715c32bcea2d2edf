package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// seat is a replica as the meta group wishes it: what the simulator knows, every
// node knows at once.
type seat struct {
	group storage.GroupID
	node  int
	id    storage.ReplicaID
	voter bool
	first bool // it made the group
	gone  bool // it shall leave
	dead  bool // it is quarantined: it has stopped for good
	tomb  bool // its tombstone is on disk
}

// wish gives every node a seat in every group: node 1 made it.
func (w *world) wish() {
	for g := 1; g <= w.set.Groups; g++ {
		for n := 1; n <= w.set.Nodes; n++ {
			s := w.seat(storage.GroupID(g), n, n <= w.set.Voters)
			s.first = n == 1
		}
	}
}

func (w *world) seat(g storage.GroupID, node int, voter bool) *seat {
	w.lastID++
	s := &seat{group: g, node: node, id: w.lastID, voter: voter}
	w.nodes[node].seats[g] = s
	w.where[s.id] = s
	return s
}

// seats lists the seats of a group, in the order of the nodes.
func (w *world) seats(g storage.GroupID) (all []*seat) {
	for _, n := range w.nodes[1:] {
		if s := n.seats[g]; s != nil {
			all = append(all, s)
		}
	}
	return all
}

// rewish draws who shall have which part in a group from now on.
func (w *world) rewish(g storage.GroupID, seed uint64) bool {
	if w.oracle.groups[g].conf.Joint() {
		return false
	}
	r := newRand(seed)
	nodes := r.Perm(w.set.Nodes)
	voters := 1 + 2*r.IntN((w.set.Nodes+1)/2)
	for i, n := range nodes {
		n++
		s := w.nodes[n].seats[g]
		switch wanted := i < voters || r.IntN(3) == 0; {
		case s != nil && s.gone:
		case s != nil && s.dead:
			s.gone = true
		case s != nil && wanted:
			s.voter = i < voters
		case s != nil:
			s.gone = true
		case wanted:
			w.seat(g, n, i < voters)
			w.nodes[n].open(g)
		}
	}
	return w.someVoter(g, r)
}

// someVoter sees to it that the wish has a voter that is there.
func (w *world) someVoter(g storage.GroupID, r *rand.Rand) bool {
	n := 0
	for _, s := range w.seats(g) {
		if !s.gone && !s.dead && s.voter {
			n++
		}
	}
	for n%2 == 0 { // one more, of those that are there in any case
		var some []*seat
		for _, s := range w.seats(g) {
			if !s.dead && (s.gone || !s.voter) && !s.tomb {
				some = append(some, s)
			}
		}
		if len(some) == 0 {
			return true
		}
		s := some[r.IntN(len(some))]
		s.gone, s.voter = false, true
		n++
	}
	return true
}

// move makes the next step from the configuration towards the wish, if this
// replica leads: the simulator's own, simple mover.
func (g *group) move() bool {
	if g.leader == nil {
		return false
	}
	conf := g.core.Conf()
	if conf.Joint() {
		return false // raft leaves it by itself
	}
	cc := g.step(conf)
	if cc == nil {
		return false
	}
	err := g.core.ProposeConf(g.leader.term, cc)
	g.w.note("%d.%d moves %v: %v", g.life.id, g.id, cc.GetChanges(), err)
	g.drain()
	return err == nil
}

func (g *group) step(conf replica.Conf) *pb.ConfChangeV2 {
	var all []*pb.ConfChangeSingle
	change := func(typ pb.ConfChangeType, id storage.ReplicaID) {
		all = append(all, &pb.ConfChangeSingle{Type: typ.Enum(), NodeId: new(uint64(id))})
	}
	for _, s := range g.w.seats(g.id) {
		if !s.gone && !s.dead && !conf.Has(s.id) {
			change(pb.ConfChangeAddLearnerNode, s.id)
			return &pb.ConfChangeV2{Changes: all}
		}
	}
	ready := map[storage.ReplicaID]bool{g.seat.id: true}
	for _, p := range g.core.Progress() {
		ready[p.Replica] = p.Active && !p.Snapshot && p.Match > 0
	}
	kept, leaves, heir := 0, false, storage.ReplicaID(0)
	for _, id := range append(append([]storage.ReplicaID(nil), conf.Voters...), conf.Learners...) {
		s := g.w.where[id]
		switch {
		case id == g.seat.id && (s.gone || !s.voter):
			leaves = true // not while it leads: what it has beyond the others would block their votes
		case s.gone || s.dead:
			change(pb.ConfChangeRemoveNode, id)
		case s.voter && !ready[id]:
			return nil // the new voters come all at once
		case s.voter:
			if kept++; !conf.Votes(id) {
				change(pb.ConfChangeAddNode, id)
			} else {
				heir = id
			}
		case conf.Votes(id):
			change(pb.ConfChangeAddLearnerNode, id)
		}
	}
	if leaves && len(all) == 0 && heir != 0 {
		_ = g.core.TransferLeader(heir)
		g.drain()
	}
	if len(all) == 0 || kept == 0 {
		return nil
	}
	return &pb.ConfChangeV2{Changes: all}
}

// open begins to run a node's replica of a group, if the node is up and has one.
func (n *node) open(id storage.GroupID) {
	s := n.seats[id]
	if n.life == nil || s == nil || s.dead || s.tomb || n.life.group(id) != nil {
		return
	}
	g, err := n.life.open(s)
	if errors.Is(err, replica.ErrQuarantined) && n.damaged[id] {
		n.w.note("%d.%d is quarantined", n.id, id)
		s.dead, n.disk[id] = true, nil
		return
	}
	if err != nil {
		n.w.violate("node %d does not start group %d: %v", n.id, id, err)
	}
	n.life.groups = append(n.life.groups, g)
}

// remove deletes a replica that the group no longer has: a tombstone, then the
// state, then the log. A crash may come after any of these steps.
func (n *node) remove(id storage.GroupID, seed uint64) bool {
	s, l, w := n.seats[id], n.life, n.w
	if s == nil || l == nil || !s.gone || !s.dead && w.oracle.groups[id].conf.Has(s.id) {
		return false
	}
	// A voter that does not know yet that the change is committed decides under the
	// configuration before, and needs who is deleted here: all must know first.
	for _, id := range w.oracle.groups[id].conf.Voters {
		if v := w.where[id]; !v.dead && !w.nodes[v.node].knows(v.group) {
			return false
		}
	}
	if g := l.group(id); g != nil {
		l.close(g)
	}
	steps := []func(){
		func() {
			b := l.logs.NewBatch()
			b.PutReplica(storage.ReplicaMeta{Group: id, Replica: s.id, State: storage.ReplicaTombstone})
			l.commit(b)
			s.tomb = true
		},
		func() { l.deleteState(id) },
		func() { l.deleteLog(id) },
	}
	for i, step := range steps {
		if int(seed%6) == i {
			n.crash(seed)
			break
		}
		step()
	}
	if s.tomb { // meta knows: the node may get another one
		delete(n.seats, id)
		n.disk[id], n.damaged[id] = nil, false
	}
	return true
}

// close takes a replica out of those that run. What waits for it is dropped.
func (l *life) close(g *group) {
	if g.incoming != nil {
		defer g.incoming.report(false)
	}
	if g.leader != nil {
		g.leader.stop()
		g.leader = nil
	}
	for _, e := range g.waiting() {
		e.unknown()
	}
	for i := range l.groups {
		if l.groups[i] == g {
			l.groups = append(append([]*group(nil), l.groups[:i]...), l.groups[i+1:]...)
			break
		}
	}
	var writes []logItem
	written := 0
	for i, it := range l.writes {
		if it.group != g {
			writes = append(writes, it)
			if i < l.written {
				written++
			}
		}
	}
	if l.written > 0 && written == 0 {
		l.must(l.log.Flush())
		l.synced()
	}
	l.writes, l.written = writes, written
	var applies []applyItem
	for _, it := range l.applies {
		if it.group != g {
			applies = append(applies, it)
		}
	}
	l.applies = applies
}

func (l *life) must(err error) { l.w.must(err) }

func (l *life) deleteState(id storage.GroupID) {
	part := byte(partitionOf(id))
	b := l.states.NewBatch()
	b.DeleteRange([]byte{0, part}, []byte{0, part + 1})
	l.must(b.Commit())
	l.must(l.states.Flush())
	l.must(l.states.DropStage(id))
}

func (l *life) deleteLog(id storage.GroupID) {
	b := l.logs.NewBatch()
	b.DropGroup(id)
	l.commit(b)
}

// commit writes a batch and syncs it, and all that was written before.
func (l *life) commit(b *storage.LogBatch) {
	l.must(b.Commit(true))
	l.synced()
}

// reached says whether a group has the configuration that is wished for.
func (w *world) reached(g storage.GroupID) string {
	conf := w.oracle.groups[g].conf
	if conf.Joint() {
		return fmt.Sprintf("group %d has %v", g, conf)
	}
	n := 0
	for _, s := range w.seats(g) {
		if s.gone || s.dead || !conf.Has(s.id) || conf.Votes(s.id) != s.voter {
			text := fmt.Sprintf("group %d has %v, wished are", g, conf)
			for _, s := range w.seats(g) {
				text += fmt.Sprintf(" %+v", *s)
			}
			return text
		}
		n++
	}
	if n != len(conf.Voters)+len(conf.Learners) {
		return fmt.Sprintf("group %d has %v, %d seats", g, conf, n)
	}
	return ""
}

// rollback gives a node that is down an older log, as a disk that lied about its
// syncs does: only if that can be seen, and the group can do without the replica.
func (n *node) rollback(seed uint64) bool {
	w := n.w
	if n.life != nil || len(n.older) == 0 {
		return false
	}
	old := n.older[seed%uint64(len(n.older))].Crash(0)
	for g := storage.GroupID(1); int(g) <= w.set.Groups; g++ {
		s := n.seats[g]
		if s == nil || s.gone || s.dead || s.tomb || w.reached(g) != "" || len(w.oracle.groups[g].conf.Voters) < 3 {
			return false
		}
		for _, s := range w.seats(g) {
			if o := w.nodes[s.node]; o.damaged[g] || o != n && !o.knows(g) {
				return false // one at a time
			}
		}
	}
	hurt := n.seen(old)
	if len(hurt) == 0 {
		return false
	}
	n.log = n.older[seed%uint64(len(n.older))].Crash(0)
	n.older = nil
	for _, g := range hurt {
		n.damaged[g] = true
	}
	return true
}

// knows says whether the node's disk knows that the newest configuration is
// committed. If the others did not, they could need the one that is lost: raft
// decides under the configuration before until it knows.
func (n *node) knows(g storage.GroupID) bool {
	if n.life == nil || n.life.written > 0 {
		return false
	}
	hs, err := n.life.logs.HardState(g)
	n.w.must(err)
	return hs.Commit >= n.w.oracle.groups[g].confAt
}
