package mover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// toy is one group without a log: a configuration, a leader, and for each
// replica how far it is. Meta is real.
type toy struct {
	fatalf func(format string, args ...any)
	view   *meta.View
	wallMs int64

	conf   replica.Conf
	term   uint64
	leader storage.ReplicaID
	commit uint64
	match  map[storage.ReplicaID]uint64
	behind map[storage.ReplicaID]uint64
	gone   map[storage.ReplicaID]bool
	down   map[identity.NodeID]bool
	avoid  []identity.NodeID
	mover  *Mover
	now    time.Duration

	logBytes bool // the size of the log is known: 1 MiB an entry
}

const partition = storage.GroupID(1)

func nodeID(name string) identity.NodeID { return identity.NodeID{name[0]} }

func newToy(fatalf func(format string, args ...any)) *toy {
	t := &toy{
		fatalf: fatalf, view: &meta.View{}, term: 5, commit: 100, match: map[storage.ReplicaID]uint64{},
		behind: map[storage.ReplicaID]uint64{}, gone: map[storage.ReplicaID]bool{}, down: map[identity.NodeID]bool{},
		mover: New(DefaultConfig()),
	}
	t.must(&meta.Init{Cluster: meta.ClusterID{1}, Name: "toy", Partitions: 1, FeatureLevel: 1, Node: member("a")})
	t.leader, _ = t.view.ReplicaOn(partition, nodeID("a"))
	t.conf = replica.SoleVoter(t.leader)
	t.match[t.leader] = t.commit
	return t
}

func member(name string) meta.Node {
	return meta.Node{ID: nodeID(name), Name: name, Boot: 1, Features: meta.Features{Min: 1, Max: 1}}
}

func (t *toy) apply(c meta.Command) error {
	t.wallMs++
	out, err := meta.Apply(t.view, c, meta.At{TimeMs: t.wallMs}, nil)
	if err != nil {
		t.fatalf("%T: %v", c, err)
	}
	t.view = out.View
	return out.Result.Err
}

func (t *toy) must(c meta.Command) {
	if err := t.apply(c); err != nil {
		t.fatalf("%T: %v", c, err)
	}
}

func (t *toy) nodeOf(id storage.ReplicaID) identity.NodeID {
	n, _ := t.view.NodeOf(partition, id)
	return n
}

// lives says that a replica runs: its node is up and has not deleted it.
func (t *toy) lives(id storage.ReplicaID) bool {
	r, ok := t.view.Replica(partition, id)
	return ok && !t.down[r.Node] && !t.gone[id] && r.State != meta.ReplicaBroken && r.State != meta.ReplicaErased
}

func (t *toy) quorum(voters []storage.ReplicaID) bool {
	n := 0
	for _, v := range voters {
		if t.lives(v) {
			n++
		}
	}
	return len(voters) == 0 || n > len(voters)/2
}

func (t *toy) hasQuorum(c replica.Conf) bool { return t.quorum(c.Voters) && t.quorum(c.Outgoing) }

// caughtUp says that a majority lives and has all but a little.
func (t *toy) caughtUp(voters []storage.ReplicaID) bool {
	n := 0
	for _, id := range voters {
		if t.lives(id) && t.match[id]+DefaultConfig().MaxLag >= t.commit {
			n++
		}
	}
	return n > len(voters)/2
}

// left is the configuration that a joint one becomes.
func left(c replica.Conf) replica.Conf {
	if next, err := c.Next(&pb.ConfChangeV2{}); err == nil {
		return next
	}
	return c
}

// everybody is all that belong to the group.
func everybody(c replica.Conf) []storage.ReplicaID {
	all := slices.Concat(c.Voters, c.Outgoing, c.Learners)
	slices.Sort(all)
	return slices.Compact(all)
}

// input is what the leader sees, with a view that may be old.
func (t *toy) input(view *meta.View) Input {
	in := Input{
		Group: partition, View: view, Self: t.leader, Term: t.term, Conf: t.conf, Commit: t.commit,
		Avoid: t.avoid, Now: t.now,
	}
	for _, id := range everybody(t.conf) {
		if id != t.leader {
			in.Progress = append(in.Progress, replica.Progress{
				Replica: id, Match: t.match[id], Active: t.lives(id),
				Snapshot: t.lives(id) && t.match[id] == 0 && t.behind[id] == 0,
			})
		}
	}
	if t.logBytes {
		in.LogBytes = func(index uint64) int64 { return int64(t.commit-index) << 20 }
	}
	return in
}

// propose carries a change out, and looks that it may be made.
func (t *toy) propose(cc *pb.ConfChangeV2) {
	next, err := t.conf.Next(cc)
	if err != nil {
		t.fatalf("change %s of %s: %v", pb.ConfChangesToString(cc.GetChanges()), t.members(), err)
	}
	if !t.hasQuorum(next) || !t.conf.Joint() && !slices.Equal(next.Voters, t.conf.Voters) && !t.caughtUp(next.Voters) {
		t.fatalf("change of %s takes the quorum away: %s", t.members(), describe(t, next))
	}
	if final := left(next); !slices.Contains(final.Voters, t.leader) {
		t.fatalf("replica %d takes itself out while it leads: %s", t.leader, describe(t, final))
	}
	t.conf = next
}

// leave ends a joint configuration, as raft does by itself.
func (t *toy) leave() {
	if t.conf.Joint() && t.hasQuorum(t.conf) {
		t.conf = left(t.conf)
	}
}

// elect makes a replica the leader of the next term.
func (t *toy) elect(id storage.ReplicaID) {
	t.term++
	t.leader = id
	t.mover = New(DefaultConfig())
}

// catchUp brings what lives and is not held back up to the commit index.
func (t *toy) catchUp() {
	for _, id := range everybody(t.conf) {
		if t.lives(id) && t.behind[id] == 0 {
			t.match[id] = t.commit
		}
	}
}

// erase has the nodes that are up delete what they may, and confirm it.
func (t *toy) erase() {
	for _, r := range t.view.GroupReplicas(partition) {
		if !r.State.Runs() && !t.down[r.Node] {
			t.gone[r.ID] = true
			t.must(&meta.ReplicaGone{Group: partition, Replica: r.ID})
		}
	}
}

func (t *toy) members() string { return describe(t, t.conf) }

func describe(t *toy, c replica.Conf) string {
	list := func(what string, members []storage.ReplicaID) string {
		if len(members) == 0 {
			return ""
		}
		var out []string
		for _, id := range members {
			s := fmt.Sprint(id)
			if r, ok := t.view.Replica(partition, id); ok {
				s += "@" + string(r.Node[:1])
			}
			if id == t.leader {
				s += "*"
			}
			out = append(out, s)
		}
		return what + strings.Join(out, " ")
	}
	return list("voters ", c.Voters) + list(" learners ", c.Learners) +
		list(" outgoing ", c.Outgoing) + list(" next learners ", c.LearnersNext)
}
