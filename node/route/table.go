package route

import (
	"time"

	"github.com/waystation/waystation/actors/repository"
)

// table is who leads what, as the router goes by it. It does not change.
type table struct {
	targets []target // by partition
	// here says that this node leads all partitions: nothing is to be routed.
	here bool
	// elsewhere says that another node leads one.
	elsewhere bool
	nodes     map[string]Node // but for this one
	self      Node
}

// target is where a partition's packets go.
type target struct {
	node      string
	term      uint64
	local, ok bool
	link      *link   // nil if local or not ok
	former    []*link // that had packets in flight when they were targets
}

// clear says that nothing is in flight to a former target.
func (t *target) clear(p repository.PartitionID) bool {
	for _, l := range t.former {
		if l != t.link && l.load(p) > 0 {
			return false
		}
	}
	return true
}

// follow keeps the table up to date, and gives former leaders their time.
func (r *Router) follow() {
	for {
		changed := r.cluster.Changed() // asked first: what changes after it is seen next
		r.refresh()
		select {
		case <-changed:
		case <-r.stopping:
			return
		}
	}
}

// refresh makes the next table.
func (r *Router) refresh() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	old := r.table.Load()
	next := &table{targets: make([]target, r.cfg.Partitions), here: true, nodes: map[string]Node{}, self: r.cluster.Self()}
	for _, n := range r.cluster.Nodes() {
		next.nodes[n.ID] = n
	}
	for i := range next.targets {
		p := repository.PartitionID(i)
		t := &next.targets[i]
		leader, ok := r.cluster.Leader(p)
		t.node, t.term, t.local, t.ok = leader.Node, leader.Term, leader.Local, ok
		if t.ok && !t.local {
			n, known := next.nodes[t.node]
			if t.ok = known; known {
				t.link = r.linkTo(n)
			}
			next.elsewhere = true
		}
		next.here = next.here && t.ok && t.local
		if old != nil {
			t.former = r.former(&old.targets[i], t, p)
		}
	}
	r.table.Store(next)
	r.tell(next)
	r.closeUnused(next)
	for _, told := range r.followers {
		told()
	}
}

// former lists what may still have packets of p in flight besides the new target.
func (r *Router) former(old, next *target, p repository.PartitionID) (list []*link) {
	candidates := old.former
	if old.link != nil && old.link != next.link {
		candidates = append(candidates[:len(candidates):len(candidates)], old.link)
		r.giveTime(old.link, p)
	}
	for _, l := range candidates {
		if l != next.link && (l == old.link || l.load(p) > 0) {
			list = append(list, l)
		}
	}
	return list
}

// giveTime abandons what a former leader has not answered when its time is over,
// unless it leads again. The caller holds r.mu.
func (r *Router) giveTime(l *link, p repository.PartitionID) {
	r.spawn(func() {
		timer := time.NewTimer(r.cfg.Patience)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.stopping:
			return
		}
		if r.table.Load().targets[p].link != l {
			l.abandon(p)
		}
	})
}

// elsewhere is the public address of a partition's leader, if that is known and is
// not the node that refused a packet of it.
func (r *Router) elsewhere(p repository.PartitionID, refused string) string {
	t := r.table.Load()
	switch to := &t.targets[p]; {
	case !to.ok || to.node == refused:
		return ""
	case to.local:
		return t.self.GRPCAddr
	default:
		return to.link.node.GRPCAddr
	}
}

// linkTo returns the link to a node, made if need be. The caller holds r.mu.
func (r *Router) linkTo(n Node) *link {
	if l := r.links[n.ID]; l != nil && l.node.PeerAddr == n.PeerAddr {
		return l
	} else if l != nil {
		r.retire(l)
	}
	l := r.newLink(n)
	r.links[n.ID] = l
	return l
}

// closeUnused closes the links to nodes that are gone. The caller holds r.mu.
func (r *Router) closeUnused(t *table) {
	for id, l := range r.links {
		if n, ok := t.nodes[id]; !ok || n.PeerAddr != l.node.PeerAddr {
			delete(r.links, id)
			r.retire(l)
		}
	}
}

// retire closes a link without waiting for it. The caller holds r.mu.
func (r *Router) retire(l *link) {
	r.spawn(l.close)
}
