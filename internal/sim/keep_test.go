package sim

import (
	"errors"
	"fmt"

	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// keeping is what a member does beside its replicas' work: node/member in the
// real node.
type keeping struct {
	calls     []*call
	announced bool
	refused   bool // the cluster has removed it
	moves     map[storage.GroupID]*moves
	silent    map[int]since
}

func newKeeping() keeping {
	return keeping{moves: map[storage.GroupID]*moves{}, silent: map[int]since{}}
}

// keep runs what the map gives to this node, and deletes what it takes away; seed
// says how far a deletion comes before the node crashes.
func (l *life) keep(seed uint64) bool {
	v := l.store.View()
	if l.refused {
		l.leave()
		return true
	}
	if !v.Made() {
		return l.founder && l.ask("init", &meta.Init{
			Cluster: meta.ClusterID{1}, Name: "sim", Partitions: uint16(l.w.set.Groups), FeatureLevel: 1, Node: l.self(),
		}, func(meta.Result, error) {})
	}
	did := false
	if n, ok := v.Node(l.ident); ok && n.State == meta.NodeRemoved && len(l.groups) <= 1 {
		l.leave()
		return true
	}
	for _, r := range v.ReplicasOn(l.ident) {
		if !r.State.Runs() {
			did = l.unwanted(v, r, &seed) || did
			if l.w.nodes[l.id].life != l {
				return true
			}
		}
	}
	for _, r := range v.ReplicasOn(l.ident) {
		if r.State.Runs() {
			did = l.running(r) || did
		}
	}
	return l.announce(v) || did
}

// leave ends a node that the cluster has removed.
func (l *life) leave() {
	l.w.note("%d is a member no longer", l.id)
	n := l.node
	n.crash(0)
	n.over = true
}

// announce records this start with meta, and then that this node is active.
func (l *life) announce(v *meta.View) bool {
	if !l.announced {
		return l.ask("start", &meta.StartNode{Node: l.self()}, func(_ meta.Result, err error) {
			switch {
			case err == nil:
				l.announced = true
			case errors.Is(err, meta.ErrRemoved):
				l.refused = true
			case errors.Is(err, errNoAnswer), errors.Is(err, meta.ErrNotMade):
			default:
				l.w.violate("node %d is refused: %v", l.id, err)
			}
		})
	}
	if n, ok := v.Node(l.ident); !ok || n.State != meta.NodeJoining {
		return false
	}
	return l.ask("activate", &meta.SetNodeState{Node: l.ident, State: meta.NodeActive}, func(meta.Result, error) {})
}

// running begins a replica, and reports one that is quarantined.
func (l *life) running(r meta.Replica) bool {
	if l.broken[r.Group] == r.ID {
		return l.ask(fmt.Sprintf("replace %d", r.ID), &meta.ReplaceReplica{Group: r.Group, Replica: r.ID, Why: "quarantined"}, func(res meta.Result, err error) {
			if err == nil && r.Group == meta.MetaGroup && res.Replica != 0 {
				l.nextMeta(res.Replica) // its own view ended with the old one
			}
		})
	}
	if l.group(r.Group) != nil || l.broken[r.Group] != 0 {
		return false
	}
	l.open(r.Group, r.ID, !l.founder || r.ID > meta.FirstReplica+storage.ReplicaID(l.w.set.Groups))
	return true
}

// unwanted deletes a replica and tells meta: first a tombstone, then the state,
// then the log. A crash may come after any of these steps.
func (l *life) unwanted(v *meta.View, r meta.Replica, seed *uint64) bool {
	if r.Group == meta.MetaGroup {
		next, ok := v.ReplicaOn(meta.MetaGroup, l.ident)
		if !ok {
			return false // removed from the cluster: the node ends, and keeps what it has
		}
		if l.replica != next {
			l.nextMeta(next)
			return true
		}
	} else if l.recorded(r.Group) == r.ID || l.broken[r.Group] == r.ID {
		l.erase(r.Group, r.ID, seed)
		if l.w.nodes[l.id].life != l {
			return true
		}
	}
	if r.State == meta.ReplicaErased {
		return false // said already
	}
	return l.ask(fmt.Sprintf("gone %d", r.ID), &meta.ReplicaGone{Group: r.Group, Replica: r.ID}, func(meta.Result, error) {})
}

// recorded is the replica of a group that the log has, live; 0 if there is none.
func (l *life) recorded(g storage.GroupID) storage.ReplicaID {
	f, err := foundIn(l.logs, g)
	l.must(err)
	if !f.Recorded || f.Tombstone {
		return 0
	}
	return f.Replica
}

// erase deletes what the node has of a replica.
func (l *life) erase(g storage.GroupID, id storage.ReplicaID, seed *uint64) {
	w := l.w
	var sm machine = &registry{w: w, store: l.store}
	if g != meta.MetaGroup {
		sm = &partition{w: w, id: g} // what there is may be damaged
	}
	if x := l.group(g); x != nil {
		l.close(x)
	}
	w.note("%d.%d deletes replica %d", l.id, g, id)
	steps := []func(){
		func() {
			b := l.logs.NewBatch()
			b.PutReplica(storage.ReplicaMeta{Group: g, Replica: id, State: storage.ReplicaTombstone})
			l.commit(b)
		},
		func() { l.deleteState(sm) },
		func() { l.deleteLog(g) },
	}
	for i, step := range steps {
		if int(*seed%6) == i {
			l.crash(*seed)
			return
		}
		step()
	}
	*seed = 5
	delete(l.broken, g)
	w.oracle.forget(l.node, g)
	l.disk[g], l.damaged[g] = nil, false
	if f := w.flip; f != nil && f.node == l.id && f.group == g {
		w.flipGone()
	}
	w.must(sm.installed(l))
}

// nextMeta puts another replica of meta in the place of this node's.
func (l *life) nextMeta(next storage.ReplicaID) {
	l.replica = next
	l.finishMeta()
	l.open(meta.MetaGroup, next, true)
}

// finishMeta deletes a replica of meta that this node is to have no longer.
func (l *life) finishMeta() {
	if old := l.recorded(meta.MetaGroup); old != 0 && old < l.replica {
		never := uint64(5)
		l.erase(meta.MetaGroup, old, &never)
	}
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
	g.registrar = 0
	for _, e := range g.waiting() {
		delete(g.waiters, e.key)
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

// deleteState cuts a group out of the state by installing nothing in its place.
func (l *life) deleteState(sm machine) {
	lower, upper := sm.keyRange()
	id := meta.MetaGroup
	if p, ok := sm.(*partition); ok {
		id = p.id
	}
	stage, err := l.states.NewStage(id)
	l.must(err)
	l.must(stage.Seal())
	l.must(l.states.Install(id, lower, upper))
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
