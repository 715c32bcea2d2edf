package mover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/raft/v3/confchange"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// toy is one group without a log: a configuration, a leader, and for each
// replica how far it is. Meta is real.
type toy struct {
	fatalf func(format string, args ...any)
	view   *meta.View
	wallMs int64

	conf   *pb.ConfState
	term   uint64
	leader storage.ReplicaID
	commit uint64
	match  map[storage.ReplicaID]uint64
	behind map[storage.ReplicaID]int64
	gone   map[storage.ReplicaID]bool
	down   map[identity.NodeID]bool
	avoid  []identity.NodeID
	mover  *Mover
	now    time.Duration
	busy   bool
}

const partition = storage.GroupID(1)

func nodeID(name string) identity.NodeID { return identity.NodeID{name[0]} }

func newToy(fatalf func(format string, args ...any)) *toy {
	t := &toy{
		fatalf: fatalf, view: &meta.View{}, term: 5, commit: 100, match: map[storage.ReplicaID]uint64{},
		behind: map[storage.ReplicaID]int64{}, gone: map[storage.ReplicaID]bool{}, down: map[identity.NodeID]bool{},
		mover: New(DefaultConfig()),
	}
	t.must(&meta.Init{Cluster: meta.ClusterID{1}, Name: "toy", Partitions: 1, FeatureLevel: 1, Node: member("a")})
	t.leader, _ = t.view.ReplicaOn(partition, nodeID("a"))
	t.conf = &pb.ConfState{Voters: []uint64{uint64(t.leader)}}
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

func (t *toy) quorum(voters []uint64) bool {
	n := 0
	for _, v := range voters {
		if t.lives(storage.ReplicaID(v)) {
			n++
		}
	}
	return len(voters) == 0 || n > len(voters)/2
}

func (t *toy) hasQuorum(c *pb.ConfState) bool {
	return t.quorum(c.GetVoters()) && t.quorum(c.GetVotersOutgoing())
}

// caughtUp says that a majority lives and has all but a little.
func (t *toy) caughtUp(voters []uint64) bool {
	n := 0
	for _, v := range voters {
		if id := storage.ReplicaID(v); t.lives(id) && t.match[id]+DefaultConfig().MaxLag >= t.commit {
			n++
		}
	}
	return n > len(voters)/2
}

// changed is the configuration that a change leads to.
func changed(c *pb.ConfState, cc *pb.ConfChangeV2) (*pb.ConfState, error) {
	chg := confchange.Changer{Tracker: tracker.MakeProgressTracker(10, 0), LastIndex: 10}
	cfg, trk, err := confchange.Restore(chg, c)
	if err != nil {
		return nil, err
	}
	chg.Tracker.Config, chg.Tracker.Progress = cfg, trk
	if cc.LeaveJoint() {
		cfg, _, err = chg.LeaveJoint()
	} else if auto, joint := cc.EnterJoint(); joint {
		cfg, _, err = chg.EnterJoint(auto, cc.GetChanges()...)
	} else {
		cfg, _, err = chg.Simple(cc.GetChanges()...)
	}
	chg.Tracker.Config = cfg
	return chg.Tracker.ConfState(), err
}

// input is what the leader sees, with a view that may be old.
func (t *toy) input(view *meta.View) Input {
	in := Input{
		Group: partition, View: view, Self: t.leader, Term: t.term, Conf: t.conf, Commit: t.commit, Busy: t.busy,
		Avoid: t.avoid, Now: t.now,
	}
	for _, id := range ids(t.conf.GetVoters(), t.conf.GetLearners(), t.conf.GetVotersOutgoing(), t.conf.GetLearnersNext()) {
		in.Progress = append(in.Progress, Progress{
			Replica: id, Match: t.match[id], Active: t.lives(id), BehindBytes: t.behind[id],
			Snapshot: t.lives(id) && t.match[id] == 0 && t.behind[id] == 0,
		})
	}
	return in
}

// propose carries a change out, and looks that it may be made.
func (t *toy) propose(cc *pb.ConfChangeV2) {
	next, err := changed(t.conf, cc)
	if err != nil {
		t.fatalf("change %s of %s: %v", pb.ConfChangesToString(cc.GetChanges()), t.members(), err)
	}
	if !t.hasQuorum(next) || !t.caughtUp(next.GetVoters()) {
		t.fatalf("change of %s takes the quorum away: %s", t.members(), describe(t, next))
	}
	final := next
	if len(next.GetVotersOutgoing()) > 0 {
		if final, err = changed(next, &pb.ConfChangeV2{}); err != nil {
			t.fatalf("leave: %v", err)
		}
	}
	if !slices.Contains(final.GetVoters(), uint64(t.leader)) {
		t.fatalf("replica %d takes itself out while it leads: %s", t.leader, describe(t, final))
	}
	t.conf = next
}

// leave ends a joint configuration, as raft does by itself.
func (t *toy) leave() {
	if len(t.conf.GetVotersOutgoing()) > 0 && t.hasQuorum(t.conf) {
		t.conf, _ = changed(t.conf, &pb.ConfChangeV2{})
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
	for _, id := range ids(t.conf.GetVoters(), t.conf.GetLearners(), t.conf.GetVotersOutgoing(), t.conf.GetLearnersNext()) {
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

func describe(t *toy, c *pb.ConfState) string {
	list := func(what string, members []uint64) string {
		if len(members) == 0 {
			return ""
		}
		var out []string
		for _, id := range members {
			s := fmt.Sprint(id)
			if r, ok := t.view.Replica(partition, storage.ReplicaID(id)); ok {
				s += "@" + string(r.Node[:1])
			}
			if storage.ReplicaID(id) == t.leader {
				s += "*"
			}
			out = append(out, s)
		}
		return what + strings.Join(out, " ")
	}
	return list("voters ", c.GetVoters()) + list(" learners ", c.GetLearners()) +
		list(" outgoing ", c.GetVotersOutgoing()) + list(" next learners ", c.GetLearnersNext())
}
