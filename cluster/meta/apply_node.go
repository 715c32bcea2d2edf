package meta

import (
	"cmp"
	"fmt"
	"slices"
)

func applyJoin(v *View, c *JoinNode, at At) Outcome {
	old, known := v.Node(c.Node.ID)
	if known {
		out := applyStart(v, &StartNode{Node: c.Node}, at)
		if out.Result.Err == nil {
			out.Result.Replica, _ = out.View.ReplicaOn(MetaGroup, old.ID)
		}
		return out
	}
	if err := admits(v, c.Node); err != nil {
		return refused(v, err)
	}
	if members := len(v.NodesIn(NodeJoining, NodeActive, NodeDraining)); members >= MaxNodes {
		return refused(v, fmt.Errorf("%w nodes: %d", ErrTooMany, MaxNodes))
	}
	ch := begin(v, at)
	n := c.Node
	n.State, n.JoinedMs, n.ChangedMs = NodeJoining, at.TimeMs, at.TimeMs
	ch.putNode(n)
	ch.next.Cluster.Generation++
	id := ch.newReplica(Replica{Group: MetaGroup, Node: n.ID, Role: Learner})
	ch.wish(MetaGroup)
	ch.putCluster()
	ch.note("node %s joins from %s, version %s, zone %q", n.Name, n.Addresses.Peer, n.Version, n.Zone)
	return ch.done(Result{Replica: id})
}

// admits says why the cluster cannot have a node as it describes itself.
func admits(v *View, n Node) error {
	if other, taken := v.NodeByName(n.Name); taken && other.ID != n.ID {
		return fmt.Errorf("%w: %q is node %s", ErrNameTaken, n.Name, other.ID)
	}
	if !n.Features.Has(v.Cluster.FeatureLevel) {
		return fmt.Errorf("%w: the cluster is at %d, the program of node %s (version %s) runs at %d to %d",
			ErrFeature, v.Cluster.FeatureLevel, n.Name, n.Version, n.Features.Min, n.Features.Max)
	}
	return nil
}

// applyStart records a start. The same start may be reported twice; another
// one under a counter that is not higher comes from a folder that branched off.
func applyStart(v *View, c *StartNode, at At) Outcome {
	old, known := v.Node(c.Node.ID)
	if err := startable(old, known, c.Node); err != nil {
		return refused(v, err)
	}
	if err := admits(v, c.Node); err != nil {
		return refused(v, err)
	}
	n := c.Node
	n.State, n.JoinedMs, n.ChangedMs = old.State, old.JoinedMs, old.ChangedMs
	if n == old {
		return unchanged(v, Result{})
	}
	ch := begin(v, at)
	ch.putNode(n)
	switch {
	case n.Name != old.Name:
		ch.note("node %s is now called %s; start %d, version %s", old.Name, n.Name, n.Boot, n.Version)
	case n.Life != old.Life:
		ch.note("node %s started, start %d, version %s", n.Name, n.Boot, n.Version)
	}
	return ch.done(Result{})
}

func startable(old Node, known bool, n Node) error {
	switch {
	case !known:
		return fmt.Errorf("%w: %s (%s)", ErrNoNode, n.Name, n.ID)
	case old.State == NodeRemoved:
		return fmt.Errorf("%w: %s (%s)", ErrRemoved, n.Name, n.ID)
	case n.Boot == old.Boot && n.Life == old.Life:
		return nil
	case n.Boot <= old.Boot:
		return fmt.Errorf("%w: node %s starts for the %d. time, but %d starts are recorded", ErrCopy, n.ID, n.Boot, old.Boot)
	}
	return nil
}

func applyNodeState(v *View, c *SetNodeState, at At) Outcome {
	n, known := v.Node(c.Node)
	switch {
	case !known:
		return refused(v, fmt.Errorf("%w: %s", ErrNoNode, c.Node))
	case n.State == c.State:
		return unchanged(v, Result{})
	case !n.State.leadsTo(c.State):
		return refused(v, fmt.Errorf("%w: node %s is %s", ErrState, n.Name, n.State))
	}
	if c.State == NodeRemoved {
		if err := dispensable(v, n); err != nil {
			return refused(v, err)
		}
	}
	ch := begin(v, at)
	before := n.State
	n.State, n.ChangedMs = c.State, at.TimeMs
	ch.putNode(n)
	ch.note("node %s is %s, was %s", n.Name, n.State, before)
	if n.State == NodeRemoved {
		// A map that was drawn before is stale: it counts on this node, and could make
		// it the only voter of a group.
		ch.next.Cluster.Generation++
		ch.putCluster()
		ch.bury(n)
	}
	return ch.done(Result{})
}

// dispensable says why node n may not be removed: from then on nobody talks to it,
// and the voters that are left of some group could be no majority. It is to be
// drained first.
func dispensable(v *View, n Node) error {
	for _, p := range v.Placements {
		if !majorityWithout(v, n, &p) {
			return fmt.Errorf("%w: node %s has copies of group %d that are needed", ErrLastCopies, n.Name, p.Group)
		}
	}
	return nil
}

// majorityWithout says whether the group has a majority without n, whoever its
// voters are by now: those that were reported last, if the group was settled, and
// else anything between them and what the map wants, or wanted in a version that
// nobody has reported under. A group that was on its way when it reported may be on
// it still while the map wants something else by now; how few voters it was to have
// is not known any more, and may have been one.
func majorityWithout(v *View, n Node, p *Placement) bool {
	least, wanted := len(p.Voters), 0
	mine, gone := false, 0
	for _, r := range v.GroupReplicas(p.Group) {
		inMap := r.State == ReplicaWanted && r.Role == Voter
		if inMap {
			wanted++
		}
		votes := slices.Contains(p.Voters, r.ID)
		if p.Moving() {
			votes = votes || inMap || p.Reported != p.Version && r.State.Runs()
		}
		if on, _ := v.Node(r.Node); votes && (r.Node == n.ID || on.State == NodeRemoved || !r.State.Runs()) {
			mine = mine || r.Node == n.ID
			gone++
		}
	}
	if p.Moving() {
		least = min(least, wanted)
	}
	if p.Reported != p.Version && !p.Settled {
		least = min(least, 1)
	}
	return !mine || gone <= (least-1)/2
}

// bury forgets what a removed node would have to confirm, and the oldest of the
// removed nodes if there are too many.
func (c *change) bury(n Node) {
	for _, r := range c.next.ReplicasOn(n.ID) {
		switch r.State {
		case ReplicaRetired:
			c.dropReplica(r)
		case ReplicaBroken:
			r.State = ReplicaErased
			c.putReplica(r)
		}
	}
	removed := c.next.NodesIn(NodeRemoved)
	if len(removed) <= MaxRemoved {
		return
	}
	slices.SortStableFunc(removed, func(a, b Node) int { return cmp.Compare(a.ChangedMs, b.ChangedMs) })
	for _, old := range removed {
		if old.ID != n.ID && len(c.next.ReplicasOn(old.ID)) == 0 {
			c.dropNode(old)
			return
		}
	}
}
