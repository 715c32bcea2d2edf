package sim

import (
	"errors"
	"fmt"
	"slices"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// machineOf is the machine that a data folder is on; 0 if it was emptied.
func (w *world) machineOf(n identity.NodeID) int {
	if i := w.machines[n]; i != 0 && w.nodes[i].ident == n {
		return i
	}
	return 0
}

// machineWith is the machine that a replica was given to; 0 if that has another
// data folder by now.
func (w *world) machineWith(id storage.ReplicaID) int { return w.machineOf(w.where[id]) }

// group says where a group is for notes.
func (g *group) name() string { return fmt.Sprint(g.id) }

// found has machine 1 make the cluster.
func (n *node) found() {
	n.belong = belong{member: true, founder: true, replica: meta.FirstReplica}
	n.start()
}

// join has a machine ask a member to be taken in. The answer may be lost.
func (n *node) join(by int, lost bool) bool {
	m := n.w.node(by)
	if n.member || m == nil || m == n || m.life == nil {
		return false
	}
	n.boots = max(n.boots, 1)
	me := n.ident
	return m.life.ask("join "+me.String(), &meta.JoinNode{Node: n.self()}, func(r meta.Result, err error) {
		switch {
		case n.ident != me || n.member: // nobody waits for it
		case errors.Is(err, meta.ErrRemoved):
			n.over = true
		case err != nil && !errors.Is(err, errNoAnswer):
			n.w.violate("node %d may not join: %v", n.id, err)
		case err == nil && !lost:
			n.belong = belong{member: true, replica: r.Replica}
			n.boots-- // it is the same start
			n.start()
		}
	})
}

// admin is what an operator does: a machine is drained, or not any more, removed,
// emptied, or joins. n draws what.
func (w *world) admin(at int, n uint64) bool {
	x := w.node(at)
	if x == nil {
		return false
	}
	by := 1 + int(n>>8)%w.set.Nodes
	v := w.oracle.view
	me, ok := v.Node(x.ident)
	switch {
	case x.over || ok && me.State == meta.NodeRemoved:
		return x.wipe()
	case !x.member:
		return x.join(by, n%5 == 0)
	}
	m := w.node(by)
	if m.life == nil || !ok {
		return false
	}
	next := meta.NodeDraining
	switch {
	case n%4 == 0:
		next = meta.NodeRemoved
	case me.State == meta.NodeDraining:
		next = meta.NodeActive
	}
	if next == meta.NodeDraining && (w.flip != nil || w.hurt()) {
		return false // the copies that are left may be that one
	}
	if len(v.NodesIn(meta.NodeActive)) < 2 && next != meta.NodeActive || next == meta.NodeRemoved && w.hurt() {
		return false
	}
	if next == meta.NodeRemoved {
		w.removing[x.ident] = true
	}
	ok = m.life.ask("admin", &meta.SetNodeState{Node: x.ident, State: next}, func(_ meta.Result, err error) {
		if next == meta.NodeDraining && !errors.Is(err, errNoAnswer) {
			w.asked--
		}
	})
	if ok && next == meta.NodeDraining {
		w.asked++
	}
	return ok
}

// drains says whether some node gives away what it has, or may be about to: to
// another one, which may become the only voter beside it of a group.
func (w *world) drains() bool {
	return w.asked > 0 || len(w.oracle.view.NodesIn(meta.NodeDraining)) > 0
}

// hurt says whether some replica is damaged, and has not been replaced. Nothing
// else is taken from the cluster meanwhile.
func (w *world) hurt() bool {
	w.lookAtFlip()
	for _, n := range w.nodes[1:] {
		for g := storage.GroupID(0); int(g) <= w.set.Groups; g++ {
			if n.damaged[g] {
				return true
			}
		}
	}
	for _, r := range w.oracle.view.Replicas {
		if r.State == meta.ReplicaBroken || r.State == meta.ReplicaErased {
			return true
		}
	}
	return false
}

// wipe empties the data folder of a removed node that is down, if no group may
// still need it.
func (n *node) wipe() bool {
	w := n.w
	if n.life != nil {
		return false
	}
	for g := storage.GroupID(0); int(g) <= w.set.Groups; g++ {
		for _, c := range w.oracle.groups[g].recent() {
			for _, id := range slices.Concat(c.Voters, c.Outgoing, c.Learners) {
				if w.machineWith(id) == n.id {
					return false
				}
			}
		}
		if !w.known(g) {
			return false
		}
	}
	w.note("%d is emptied", n.id)
	n.empty()
	return true
}

// known says whether all voters know, on disk, that the newest configuration is
// committed. One that does not decides under the one before.
func (w *world) known(g storage.GroupID) bool {
	for _, id := range w.oracle.groups[g].conf.Voters {
		i := w.machineWith(id)
		if i == 0 || !w.nodes[i].knows(g) {
			return false
		}
	}
	return true
}

// knows says whether the node's disk knows that the newest configuration is
// committed.
func (n *node) knows(g storage.GroupID) bool {
	if n.life == nil || n.life.written > 0 {
		return false
	}
	hs, err := n.life.logs.HardState(g)
	n.w.must(err)
	return hs.Commit >= n.w.oracle.groups[g].confAt
}

// reached says what a group's configuration lacks of what the map wants, or "".
func (w *world) reached(g storage.GroupID) string {
	conf := w.oracle.groups[g].conf
	var voters, learners []storage.ReplicaID
	for _, r := range w.oracle.view.Wish(g) {
		if r.Role == meta.Voter {
			voters = append(voters, r.ID)
		} else {
			learners = append(learners, r.ID)
		}
	}
	if conf.Joint() || !slices.Equal(voters, conf.Voters) || !slices.Equal(learners, conf.Learners) {
		return fmt.Sprintf("group %d has %v, wanted are voters %v learners %v", g, conf, voters, learners)
	}
	return ""
}

// spare says whether group g can do without this node's replica, for good: it is
// one of several voters, and no other is damaged.
func (n *node) spare(g storage.GroupID) bool {
	w := n.w
	if w.reached(g) != "" {
		return false
	}
	for _, x := range w.nodes[1:] {
		if v, ok := w.oracle.view.Node(x.ident); w.removing[x.ident] && ok && (v.State != meta.NodeRemoved || len(w.oracle.view.ReplicasOn(x.ident)) > 0) {
			return false // it may be gone at any moment
		}
	}
	conf := w.oracle.groups[g].conf
	for _, id := range slices.Concat(conf.Voters, conf.Learners) {
		i := w.machineWith(id)
		switch {
		case i == 0 || w.nodes[i].damaged[g]:
			return false // one at a time
		case i == n.id && conf.Votes(id) && len(conf.Voters) < 3:
			return false
		case i != n.id && conf.Votes(id) && !w.nodes[i].knows(g):
			return false // the others could need it: they decide under the configuration before
		}
	}
	return true
}

// rollback gives a node that is down an older log, as a disk that lied about its
// syncs does: only if that can be seen, and the groups can do without it.
func (n *node) rollback(seed uint64) bool {
	w := n.w
	if n.life != nil || len(n.older) == 0 || !n.member || n.over || w.drains() {
		return false
	}
	old := n.older[seed%uint64(len(n.older))].Crash(0)
	for g := storage.GroupID(0); int(g) <= w.set.Groups; g++ {
		if !n.spare(g) {
			return false
		}
	}
	hurt := n.seen(old)
	if len(hurt) == 0 {
		return false
	}
	n.log = n.older[seed%uint64(len(n.older))].Crash(0)
	n.older = nil
	n.hush() // or they would count what is lost
	for _, g := range hurt {
		n.damaged[g] = true
	}
	return true
}
