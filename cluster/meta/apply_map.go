package meta

import (
	"fmt"
	"slices"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

// applyMap sets the wish of groups. A group whose wish stays as it is keeps its
// version.
func applyMap(v *View, c *SetMap, at At) Outcome {
	if c.Generation != v.Cluster.Generation {
		return refused(v, fmt.Errorf("%w: it is of generation %d, not %d", ErrStale, v.Cluster.Generation, c.Generation))
	}
	ch := begin(v, at)
	ch.next.Cluster.Generation++
	changed := 0
	for _, g := range c.Groups {
		if err := placeable(v, &g); err != nil {
			return refused(v, fmt.Errorf("group %d: %w", g.Group, err))
		}
		if ch.setGroup(v, &g) {
			changed++
		}
	}
	if changed == 0 {
		return unchanged(v, Result{})
	}
	ch.putCluster()
	ch.note("map %d, groups changed: %d: %s", ch.next.Cluster.Generation, changed, c.Why)
	return ch.done(Result{})
}

// placeable says why a group cannot have a wish.
func placeable(v *View, g *GroupWish) error {
	if g.Group > PartitionGroup(v.Cluster.Partitions-1) {
		return fmt.Errorf("%w: there is no such group", ErrMap)
	}
	for _, w := range g.Replicas {
		n, known := v.Node(w.Node)
		if !known {
			return fmt.Errorf("%w: node %s is not known", ErrMap, w.Node)
		}
		if w.Replica != 0 {
			if r, ok := v.Replica(g.Group, w.Replica); !ok || r.Node != w.Node || !r.State.Runs() {
				return fmt.Errorf("%w: replica %d on node %s", ErrNoReplica, w.Replica, n.Name)
			}
			continue
		}
		if n.State == NodeRemoved {
			return fmt.Errorf("%w: node %s is removed", ErrMap, n.Name)
		}
		for _, r := range v.GroupReplicas(g.Group) {
			if r.Node == w.Node {
				return fmt.Errorf("%w: node %s still has replica %d (%s)", ErrMap, n.Name, r.ID, r.State)
			}
		}
	}
	return nil
}

// setGroup brings one group's replicas to what is wished, and says whether that
// changed anything.
func (c *change) setGroup(v *View, g *GroupWish) bool {
	changed := false
	for _, r := range v.GroupReplicas(g.Group) {
		i := slices.IndexFunc(g.Replicas, func(w ReplicaWish) bool { return w.Replica == r.ID })
		next := r
		switch {
		case i >= 0:
			w := g.Replicas[i]
			next.Role, next.Leader, next.State = w.Role, w.Leader, ReplicaWanted
		case r.State == ReplicaWanted:
			next.Leader, next.State = false, ReplicaLeaving
		}
		if next != r {
			c.putReplica(next)
			changed = true
		}
	}
	for _, w := range g.Replicas {
		if w.Replica == 0 {
			c.newReplica(Replica{Group: g.Group, Node: w.Node, Role: w.Role, Leader: w.Leader})
			changed = true
		}
	}
	if changed {
		c.wish(g.Group)
	}
	return changed
}

func applyReport(v *View, c *ReportGroup, at At) Outcome {
	p, ok := v.Placement(c.Group)
	switch {
	case !ok:
		return refused(v, fmt.Errorf("%w: there is no group %d", ErrMap, c.Group))
	case c.Version != p.Version:
		return refused(v, fmt.Errorf("%w: group %d is at version %d, the report of %d", ErrStale, c.Group, p.Version, c.Version))
	case c.Term < p.Term:
		return refused(v, fmt.Errorf("%w: group %d was led in term %d, the report is of %d", ErrStale, c.Group, p.Term, c.Term))
	}
	next := p
	next.Term, next.Reported, next.Voters = c.Term, c.Version, slices.Clone(c.Voters)
	next.Settled = !c.Joint && settled(v, c)
	ch := begin(v, at)
	ch.retire(v, c)
	if len(ch.records) == 0 && p.Term == next.Term && p.Reported == next.Reported && p.Settled == next.Settled && slices.Equal(p.Voters, next.Voters) {
		return unchanged(v, Result{})
	}
	ch.putPlacement(next)
	if next.Settled && p.Moving() {
		ch.note("group %d is as the map of generation %d wants it: voters %v, learners %v", c.Group, c.Version, c.Voters, c.Learners)
	}
	return ch.done(Result{})
}

// settled says whether a report's members are those of the wish.
func settled(v *View, c *ReportGroup) bool {
	var voters, learners []storage.ReplicaID
	for _, r := range v.Wish(c.Group) {
		if r.Role == Voter {
			voters = append(voters, r.ID)
		} else {
			learners = append(learners, r.ID)
		}
	}
	return slices.Equal(voters, c.Voters) && slices.Equal(learners, c.Learners)
}

// retire gives up what left the map and is no member any more.
func (c *change) retire(v *View, report *ReportGroup) {
	for _, r := range v.GroupReplicas(report.Group) {
		if slices.Contains(report.Voters, r.ID) || slices.Contains(report.Learners, r.ID) {
			continue
		}
		n, _ := v.Node(r.Node)
		switch {
		case r.State == ReplicaErased, n.State == NodeRemoved && (r.State == ReplicaLeaving || r.State == ReplicaBroken):
			c.dropReplica(r)
		case r.State == ReplicaLeaving, r.State == ReplicaBroken:
			r.State = ReplicaRetired
			c.putReplica(r)
		}
	}
}

func applyGone(v *View, c *ReplicaGone, at At) Outcome {
	r, ok := v.Replica(c.Group, c.Replica)
	ch := begin(v, at)
	switch {
	case !ok || r.State == ReplicaErased:
		return unchanged(v, Result{})
	case r.State == ReplicaRetired:
		ch.dropReplica(r)
	case r.State == ReplicaBroken:
		r.State = ReplicaErased
		ch.putReplica(r)
	default:
		return refused(v, fmt.Errorf("%w: replica %d of group %d is %s: it may not be gone", ErrState, r.ID, r.Group, r.State))
	}
	return ch.done(Result{})
}

func applyReplace(v *View, c *ReplaceReplica, at At) Outcome {
	r, ok := v.Replica(c.Group, c.Replica)
	switch {
	case !ok:
		return refused(v, fmt.Errorf("%w: %d of group %d", ErrNoReplica, c.Replica, c.Group))
	case !r.State.Runs():
		successor, _ := v.ReplicaOn(r.Group, r.Node)
		return unchanged(v, Result{Replica: successor})
	}
	if err := expendable(v, r); err != nil {
		if out, ok := takeBack(v, r, at); ok {
			return out
		}
		return refused(v, err)
	}
	ch := begin(v, at)
	broken := r
	broken.State, broken.Leader = ReplicaBroken, false
	ch.putReplica(broken)
	ch.next.Cluster.Generation++
	var successor storage.ReplicaID
	if r.State == ReplicaWanted {
		successor = ch.newReplica(Replica{Group: r.Group, Node: r.Node, Role: r.Role, Leader: r.Leader})
	}
	ch.wish(r.Group)
	ch.putCluster()
	n, _ := v.Node(r.Node)
	ch.note("replica %d of group %d on node %s is replaced by %d: %s", r.ID, r.Group, n.Name, successor, c.Why)
	return ch.done(Result{Replica: successor})
}

// expendable says why replica r may not be given up: its data may be what makes
// up a majority, both as the map wants the group and as it was reported last.
// In the map a successor counts as one with those before it on its node.
func expendable(v *View, r Replica) error {
	p, _ := v.Placement(r.Group)
	wanted, lostReported, ending := 0, 0, 0
	var lostNodes []identity.NodeID
	for _, o := range v.GroupReplicas(r.Group) {
		lost := o.ID == r.ID || o.State == ReplicaBroken || o.State == ReplicaErased
		if o.Node == r.Node && !o.State.Runs() {
			ending++
		}
		if o.Role == Voter && o.State == ReplicaWanted {
			wanted++
		}
		if lost && o.Role == Voter && !slices.Contains(lostNodes, o.Node) {
			lostNodes = append(lostNodes, o.Node)
		}
		if lost && slices.Contains(p.Voters, o.ID) {
			lostReported++
		}
	}
	switch {
	case ending >= maxBroken:
		return fmt.Errorf("%w replicas of group %d to be deleted on node %s: %d", ErrTooMany, r.Group, r.Node, ending)
	case r.Role == Voter && len(lostNodes) > (wanted-1)/2,
		slices.Contains(p.Voters, r.ID) && lostReported > (len(p.Voters)-1)/2:
		return fmt.Errorf("%w: replica %d of group %d is needed", ErrLastCopies, r.ID, r.Group)
	}
	return nil
}

// maxBroken is how many replicas of a group may wait for their end on a node.
const maxBroken = 4
