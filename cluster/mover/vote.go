package mover

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// vote changes the voters as far as can be done now.
func (g *group) vote() (Step, bool) {
	target := g.target()
	if slices.Equal(target, g.voters) {
		return Step{}, false
	}
	if !slices.Contains(target, g.in.Self) {
		for _, anyNode := range []bool{false, true} {
			if s, ok := g.handOver(target, anyNode); ok {
				return s, true
			}
		}
		if slices.ContainsFunc(target, func(id storage.ReplicaID) bool { return slices.Contains(g.voters, id) }) {
			return Step{}, false // one of them will do, in a while
		}
		// None of the next voters can lead yet: be one of them until one can.
		target = insert(target, g.in.Self)
		if slices.Equal(target, g.voters) {
			return Step{}, false
		}
	}
	if !g.safe(target) {
		for _, id := range target {
			if !g.m.fresh(g.in, id) || !g.caughtUp(id) {
				g.waitFor(id)
			}
		}
		g.wait("of the voters that it should have, too few live")
		return Step{}, false
	}
	return g.swap(target), true
}

func insert(s []storage.ReplicaID, id storage.ReplicaID) []storage.ReplicaID {
	s = append(slices.Clone(s), id)
	slices.Sort(s)
	return s
}

// target returns the voters that the group can have now, ascending: the wanted
// ones if all are ready, and else as many of them as keep the number odd and no
// lower than it is or is to be, with old voters in the places of the others.
func (g *group) target() []storage.ReplicaID {
	wanted := g.wanted(meta.Voter)
	var able []storage.ReplicaID // those that vote first
	for _, id := range wanted {
		if slices.Contains(g.voters, id) {
			able = append(able, id)
		}
	}
	for _, id := range wanted {
		switch {
		case slices.Contains(g.voters, id):
		case g.ready(id):
			able = append(able, id)
		default:
			g.waitFor(id)
		}
	}
	if len(able) < len(wanted) {
		n := max(min(len(g.voters), len(wanted)), len(able)-1+len(able)%2)
		able = g.pad(able, n)
	}
	slices.Sort(able)
	return able
}

// pad cuts able to n, or fills it up with old voters: this replica first, then
// living ones.
func (g *group) pad(able []storage.ReplicaID, n int) []storage.ReplicaID {
	if len(able) >= n {
		return able[:n]
	}
	for _, fits := range []func(storage.ReplicaID) bool{
		func(id storage.ReplicaID) bool { return id == g.in.Self },
		func(id storage.ReplicaID) bool { return g.m.lives(g.in, id) },
		func(storage.ReplicaID) bool { return true },
	} {
		for _, id := range g.voters {
			if len(able) < n && !slices.Contains(able, id) && fits(id) {
				able = append(able, id)
			}
		}
	}
	return able
}

// safe says that after the change a majority of the new voters lives and has
// caught up, and that a majority of the old ones lives to make it.
func (g *group) safe(target []storage.ReplicaID) bool {
	old, next := 0, 0
	for _, id := range g.voters {
		if g.m.lives(g.in, id) {
			old++
		}
	}
	for _, id := range target {
		if g.m.fresh(g.in, id) && g.caughtUp(id) {
			next++
		}
	}
	return old > len(g.voters)/2 && next > len(target)/2
}

// swap makes target the voters: in one step, however many come and go.
func (g *group) swap(target []storage.ReplicaID) Step {
	var changes []*pb.ConfChangeSingle
	var text []string
	for _, id := range target {
		if !slices.Contains(g.voters, id) {
			changes = append(changes, single(pb.ConfChangeAddNode, id))
			text = append(text, g.label(id)+" votes")
		}
	}
	for _, id := range g.voters {
		switch {
		case slices.Contains(target, id):
		case g.isWanted(id):
			changes = append(changes, single(pb.ConfChangeAddLearnerNode, id))
			text = append(text, g.label(id)+" votes no more")
		default:
			changes = append(changes, single(pb.ConfChangeRemoveNode, id))
			text = append(text, g.label(id)+" leaves")
		}
	}
	return g.change(strings.Join(text, ", "), changes...)
}

// lead hands the leadership to the replica that should have it, or, from a node
// that should not lead, to any that may.
func (g *group) lead() (Step, bool) {
	for _, r := range g.wish {
		if r.Leader && r.ID != g.in.Self && slices.Contains(g.voters, r.ID) && !g.avoided(r.ID) {
			if s, ok := g.transfer(r.ID); ok {
				return s, true
			}
		}
	}
	if g.avoided(g.in.Self) {
		return g.handOver(g.voters, false)
	}
	return Step{}, false
}

// handOver transfers to the best of those that vote already: the one that
// should lead, else the one that is furthest. Unless any will do, nodes that
// should not lead are none.
func (g *group) handOver(to []storage.ReplicaID, anyNode bool) (Step, bool) {
	var able []storage.ReplicaID
	for _, id := range to {
		switch {
		case id == g.in.Self || !slices.Contains(g.voters, id) || !anyNode && g.avoided(id):
		case g.ready(id):
			able = append(able, id)
		default:
			g.waitFor(id)
		}
	}
	if len(able) == 0 {
		return Step{}, false
	}
	return g.transfer(slices.MaxFunc(able, func(a, b storage.ReplicaID) int {
		x, _ := g.progress(a)
		y, _ := g.progress(b)
		return cmp.Or(boolCompare(g.shouldLead(a), g.shouldLead(b)), cmp.Compare(x.Match, y.Match))
	}))
}

func (g *group) shouldLead(id storage.ReplicaID) bool {
	return slices.ContainsFunc(g.wish, func(r meta.Replica) bool { return r.ID == id && r.Leader })
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

func (g *group) transfer(to storage.ReplicaID) (Step, bool) {
	switch {
	case !g.ready(to):
		g.waitFor(to)
		return Step{}, false
	case g.m.hasTried && g.in.Now-g.m.tried < g.m.cfg.Retry:
		g.wait("%s is to lead and has not taken over", g.label(to))
		return Step{}, false
	}
	return Step{Kind: Transfer, To: to, Text: fmt.Sprintf("%s: %s is to lead", g.name(), g.label(to))}, true
}
