package mover

import (
	"fmt"
	"reflect"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// group is one look at a group: the wish beside the fact.
type group struct {
	m  *Mover
	in *Input
	// wish is what the map wants; place what meta knows.
	wish  []meta.Replica
	place meta.Placement
	// voters and learners are the configuration's, ascending; while it is joint,
	// voters are those of both halves, and nothing but to leave it is planned.
	voters, learners []storage.ReplicaID
	waits            []string
}

func (m *Mover) group(in *Input) *group {
	g := &group{m: m, in: in, wish: in.View.Wish(in.Group)}
	g.place, _ = in.View.Placement(in.Group)
	g.voters = slices.Concat(in.Conf.Voters, in.Conf.Outgoing)
	slices.Sort(g.voters)
	g.voters = slices.Compact(g.voters)
	g.learners = slices.Clone(in.Conf.Learners)
	return g
}

func (g *group) name() string {
	if g.in.Group == meta.MetaGroup {
		return "meta"
	}
	return fmt.Sprintf("partition %d", g.in.Group-1)
}

// label names a replica for people.
func (g *group) label(id storage.ReplicaID) string {
	node := "an unknown node"
	if n, ok := g.in.View.NodeOf(g.in.Group, id); ok {
		if known, ok := g.in.View.Node(n); ok {
			node = "node " + known.Name
		}
	}
	return fmt.Sprintf("replica %d on %s", id, node)
}

func (g *group) wait(format string, args ...any) {
	text := g.name() + ": " + fmt.Sprintf(format, args...)
	if !slices.Contains(g.waits, text) {
		g.waits = append(g.waits, text)
	}
}

// wanted returns the ids that the map wants in a role.
func (g *group) wanted(role meta.Role) []storage.ReplicaID {
	var out []storage.ReplicaID
	for _, r := range g.wish {
		if r.Role == role {
			out = append(out, r.ID)
		}
	}
	return out
}

func (g *group) isWanted(id storage.ReplicaID) bool {
	return slices.ContainsFunc(g.wish, func(r meta.Replica) bool { return r.ID == id })
}

func (g *group) progress(id storage.ReplicaID) (replica.Progress, bool) {
	i := slices.IndexFunc(g.in.Progress, func(p replica.Progress) bool { return p.Replica == id })
	if i < 0 {
		return replica.Progress{}, false
	}
	return g.in.Progress[i], true
}

// caughtUp says that a replica has all but what is on its way.
func (g *group) caughtUp(id storage.ReplicaID) bool {
	p, ok := g.progress(id)
	return id == g.in.Self || ok && !p.Snapshot && p.Match+g.m.cfg.MaxLag >= g.in.Commit
}

// ready says that a replica may be relied on from now on.
func (g *group) ready(id storage.ReplicaID) bool { return g.caughtUp(id) && g.m.steady(g.in, id) }

// avoided says that a replica's node should not lead.
func (g *group) avoided(id storage.ReplicaID) bool {
	on, ok := g.in.View.NodeOf(g.in.Group, id)
	if !ok {
		return true
	}
	n, _ := g.in.View.Node(on)
	return n.State != meta.NodeActive || slices.Contains(g.in.Avoid, on)
}

// waitFor says what is missing of a replica that is not ready.
func (g *group) waitFor(id storage.ReplicaID) {
	p, ok := g.progress(id)
	switch {
	case !ok || !g.m.lives(g.in, id):
		g.wait("%s is not heard of", g.label(id))
	case p.Snapshot:
		g.wait("%s takes a snapshot", g.label(id))
	case !g.caughtUp(id) && g.in.LogBytes != nil:
		g.wait("%s is %s behind", g.label(id), size(g.in.LogBytes(p.Match)))
	case !g.caughtUp(id):
		g.wait("%s is %d entries behind", g.label(id), g.in.Commit-p.Match)
	default:
		g.wait("%s has only just come up", g.label(id))
	}
}

func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
	}
}

// settled says that the configuration is what the map wants.
func (g *group) settled() bool {
	return slices.Equal(g.voters, g.wanted(meta.Voter)) && slices.Equal(g.learners, g.wanted(meta.Learner))
}

// unretired says that meta still counts on a replica that is out.
func (g *group) unretired() bool {
	return slices.ContainsFunc(g.in.View.GroupReplicas(g.in.Group), func(r meta.Replica) bool {
		left := r.State == meta.ReplicaLeaving || r.State == meta.ReplicaBroken || r.State == meta.ReplicaErased
		return left && !slices.Contains(g.voters, r.ID) && !slices.Contains(g.learners, r.ID)
	})
}

// report says whether meta must hear of the group before anything else.
func (g *group) report() (Step, bool) {
	settled := g.settled()
	news := g.place.Reported != g.place.Version || g.place.Settled != settled || g.unretired()
	if !news && (settled || g.place.Term == g.in.Term) {
		return Step{}, false
	}
	r := &meta.ReportGroup{
		Group: g.in.Group, Version: g.place.Version, Term: g.in.Term, Voters: g.voters, Learners: g.learners,
	}
	if last := g.m.reported; last != nil && reflect.DeepEqual(last, r) && g.in.Now-g.m.reportedAt < g.m.cfg.Steady {
		g.wait("meta has the report, and its answer is to come")
		return Step{}, true
	}
	return Step{Kind: Report, Report: r, Text: g.name() + ": report to meta"}, true
}

// leave waits for raft, which leaves a joint configuration by itself, and helps
// if it was kept from it.
func (g *group) leave() Step {
	if g.in.Now-g.m.jointSince < g.m.cfg.Retry {
		g.wait("its voters are changing")
		return Step{}
	}
	if !slices.Contains(g.in.Conf.Voters, g.in.Self) {
		for _, anyNode := range []bool{false, true} {
			if s, ok := g.handOver(g.in.Conf.Voters, anyNode); ok {
				return s
			}
		}
		g.wait("%s leads and is to vote no more", g.label(g.in.Self))
		return Step{}
	}
	g.m.jointSince = g.in.Now
	return Step{Kind: Change, Change: &pb.ConfChangeV2{}, Text: g.name() + ": leave the joint configuration"}
}

func (g *group) step() Step {
	if g.in.Conf.Joint() {
		return g.leave()
	}
	if !slices.Contains(g.voters, g.in.Self) {
		g.wait("%s leads and is no voter", g.label(g.in.Self))
		return Step{}
	}
	if s, ok := g.report(); ok {
		return s
	}
	for _, f := range []func() (Step, bool){g.add, g.vote, g.remove, g.lead} {
		if s, ok := f(); ok {
			return s
		}
	}
	return Step{}
}

// add brings in the first replica that is wanted and not there.
func (g *group) add() (Step, bool) {
	for _, r := range g.wish {
		if !slices.Contains(g.voters, r.ID) && !slices.Contains(g.learners, r.ID) {
			return g.change(fmt.Sprintf("add %s as a learner", g.label(r.ID)), single(pb.ConfChangeAddLearnerNode, r.ID)), true
		}
	}
	return Step{}, false
}

// remove takes out the first learner that is not wanted.
func (g *group) remove() (Step, bool) {
	for _, id := range g.learners {
		if !g.isWanted(id) {
			return g.change("remove "+g.label(id), single(pb.ConfChangeRemoveNode, id)), true
		}
	}
	return Step{}, false
}

func single(t pb.ConfChangeType, id storage.ReplicaID) *pb.ConfChangeSingle {
	n := uint64(id)
	return &pb.ConfChangeSingle{Type: t.Enum(), NodeId: &n}
}

// change makes a step of changes: more than one go through a joint
// configuration, which raft leaves by itself.
func (g *group) change(text string, changes ...*pb.ConfChangeSingle) Step {
	return Step{
		Kind: Change, Text: g.name() + ": " + text,
		Change: &pb.ConfChangeV2{Transition: pb.ConfChangeTransitionAuto.Enum(), Changes: changes},
	}
}
