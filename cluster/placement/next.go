package placement

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// Input is what a step is computed from.
type Input struct {
	// View is meta's state; its nodes and its map count.
	View *meta.View
	// Lost are the nodes that were down for so long that they are replaced.
	Lost []identity.NodeID
	// Unfit are nodes that should not lead: down, or their clock is off. Lost and
	// draining ones need not be named.
	Unfit []identity.NodeID
	// Replication is how many copies a partition is to have, at least 1.
	Replication int
	// MaxMoves is how many groups may move at a time, at least 1.
	MaxMoves int
}

// DefaultMaxMoves is few enough that moves don't take the machine from the
// traffic.
const DefaultMaxMoves = 4

// Result is the next step.
type Result struct {
	// Groups are the groups whose wish changes, with all that they are to have;
	// empty if nothing is to be done now.
	Groups []meta.GroupWish
	// Why sums the step up, for the log of operations.
	Why string
	// Blocked says what stays as it is though it should not.
	Blocked []Reason
	// Moving is how many groups move once the step is made.
	Moving int
}

// Reason says why a replica stays where it is, or, without a node, why there is
// none.
type Reason struct {
	Group storage.GroupID
	Node  identity.NodeID
	Text  string
}

// maxReplicas bounds one step, so that it fits into one command.
const maxReplicas = 3000

// Next returns the next step from in. The view is not changed, nor kept.
func Next(in Input) Result {
	if !in.View.Made() {
		return Result{}
	}
	p := newPlan(in)
	targets := p.targets()
	p.choose(targets)
	p.balance(targets)
	return p.result(targets)
}

// target is what one group is to have.
type target struct {
	group   storage.GroupID
	current []meta.Replica
	wish    []meta.ReplicaWish
	urgency int
	// moving is what meta says; change that this step may change the group.
	moving, change bool
}

// The urgency of a change, the most urgent first.
const (
	urgencyLost = iota
	urgencyGrow
	urgencyLeave
	urgencyBalance
)

// targets computes where every group should be, meta first.
func (p *plan) targets() []target {
	out := make([]target, 0, int(p.view.Cluster.Partitions)+1)
	for g := meta.MetaGroup; g <= meta.PartitionGroup(p.view.Cluster.Partitions-1); g++ {
		t := target{group: g, current: p.view.Wish(g)}
		if place, ok := p.view.Placement(g); ok {
			t.moving = place.Moving()
		}
		var nodes []choice
		if g == meta.MetaGroup {
			nodes = p.placeMeta(t.current)
		} else {
			nodes = p.placePartition(g, t.current)
		}
		t.wish = keep(t.current)
		if wish, ok := p.wish(g, nodes); ok {
			t.wish = wish
		}
		t.urgency = p.urgency(&t)
		out = append(out, t)
	}
	return out
}

// wish turns nodes into replicas: those that are there, and new ones. It is not
// possible while a node has yet to delete an older replica of the group.
func (p *plan) wish(g storage.GroupID, nodes []choice) ([]meta.ReplicaWish, bool) {
	out := make([]meta.ReplicaWish, 0, len(nodes))
	for _, c := range nodes {
		w := meta.ReplicaWish{Node: c.node.ID, Role: c.role}
		for _, r := range p.view.GroupReplicas(g) {
			switch {
			case r.Node != c.node.ID:
			case r.State.Runs():
				w.Replica, w.Leader = r.ID, r.Leader && c.role == meta.Voter
			case w.Replica == 0:
				// Its successor, if there is one, has a higher id and comes next.
				w.Replica = blockedBy
			}
		}
		if w.Replica == blockedBy {
			p.block(g, c.node, "must delete its older replica first")
			return nil, false
		}
		out = append(out, w)
	}
	return out, true
}

// blockedBy is no replica's id.
const blockedBy = ^storage.ReplicaID(0)

func keep(current []meta.Replica) []meta.ReplicaWish {
	out := make([]meta.ReplicaWish, len(current))
	for i, r := range current {
		out[i] = meta.ReplicaWish{Replica: r.ID, Node: r.Node, Role: r.Role, Leader: r.Leader}
	}
	return out
}

// moves says whether a wish changes more than who should lead.
func (t *target) moves() bool {
	if len(t.current) != len(t.wish) {
		return true
	}
	for _, r := range t.current {
		if !slices.ContainsFunc(t.wish, func(w meta.ReplicaWish) bool { return w.Replica == r.ID && w.Role == r.Role }) {
			return true
		}
	}
	return false
}

// old says that the wish needs no new replica: it takes back what a move that
// is under way has begun.
func (t *target) old() bool {
	return !slices.ContainsFunc(t.wish, func(w meta.ReplicaWish) bool { return w.Replica == 0 })
}

func (p *plan) urgency(t *target) int {
	stays := func(r meta.Replica) bool {
		return slices.ContainsFunc(t.wish, func(w meta.ReplicaWish) bool { return w.Replica == r.ID && w.Role >= r.Role })
	}
	leaves := false
	for _, r := range t.current {
		if stays(r) {
			continue
		}
		switch n := p.node(r.Node); {
		case n.lost || n.State == meta.NodeRemoved:
			return urgencyLost
		case n.State == meta.NodeDraining:
			leaves = true
		}
	}
	switch {
	case len(t.wish) > len(t.current) || voters(t.wish) > currentVoters(t.current):
		return urgencyGrow
	case leaves:
		return urgencyLeave
	}
	return urgencyBalance
}

// choose says which groups change in this step.
func (p *plan) choose(targets []target) {
	order := make([]*target, len(targets))
	for i := range targets {
		order[i] = &targets[i]
		if targets[i].moving {
			p.moving++
		}
	}
	slices.SortStableFunc(order, func(a, b *target) int { return cmp.Compare(a.urgency, b.urgency) })
	for _, t := range order {
		switch {
		case !t.moves():
		case t.moving && (t.urgency == urgencyLost || t.old()):
			t.change = true
		case t.moving || p.moving >= p.maxMoves:
		default:
			t.change = true
			p.moving++
		}
		if !t.change {
			t.wish = keep(t.current)
		}
	}
}

func (p *plan) result(targets []target) Result {
	r := Result{Blocked: p.blocked, Moving: p.moving}
	total, leaders := 0, 0
	var why []string
	for i := range targets {
		t := &targets[i]
		if !t.change && slices.Equal(t.wish, keep(t.current)) {
			continue
		}
		if total += len(t.wish); total > maxReplicas && len(r.Groups) > 0 {
			break
		}
		r.Groups = append(r.Groups, meta.GroupWish{Group: t.group, Replicas: t.wish})
		if t.change {
			why = append(why, p.describe(t))
		} else {
			leaders++
		}
	}
	if leaders > 0 {
		why = append(why, fmt.Sprintf("leaders to be changed: %d", leaders))
	}
	r.Why = join(why)
	return r
}
