package mover

import (
	"testing"
	"time"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// Raft clears RecentActive at every election timeout: a look that always comes
// just then must not take a replica for dead.
func TestALookMayMissWhoIsActive(t *testing.T) {
	y := newToy(t.Fatalf)
	y.must(&meta.JoinNode{Node: member("b")})
	y.must(&meta.SetNodeState{Node: nodeID("b"), State: meta.NodeActive})
	y.must(&meta.SetMap{Generation: y.view.Cluster.Generation, Groups: []meta.GroupWish{y.wish([]string{"b=voter*"})}})
	for look := range 100 {
		y.now += 250 * time.Millisecond
		in := y.input(y.view)
		for i := range in.Progress {
			in.Progress[i].Active = look%2 == 0
		}
		switch s := y.mover.Plan(in); s.Kind {
		case Report:
			y.must(s.Report)
			y.mover.Done(y.term, Made)
		case Change:
			y.propose(s.Change)
			y.mover.Done(y.term, Made)
			y.leave()
		case Transfer:
			return
		}
		y.catchUp()
	}
	t.Fatal("the leadership was never handed over")
}

// What is under way is waited for: a change until it is seen, or, when its
// outcome is not known, until the term is over.
func TestOneStepAtATime(t *testing.T) {
	y := newToy(t.Fatalf)
	y.must(&meta.JoinNode{Node: member("b")})
	y.must(&meta.SetMap{Generation: y.view.Cluster.Generation, Groups: []meta.GroupWish{y.wish([]string{"a=voter", "b=learner"})}})
	plan := func(want Kind) Step {
		t.Helper()
		y.now += 200 * time.Millisecond
		s := y.mover.Plan(y.input(y.view))
		if s.Kind != want || want == Wait && len(s.Waits) != 1 {
			t.Fatalf("%+v, want %s", s, want)
		}
		return s
	}
	plan(Report)
	plan(Wait)
	y.mover.Done(y.term, Unknown)
	r := plan(Report).Report // a report may be repeated
	y.mover.Done(y.term, Made)
	plan(Wait) // meta took it; this view does not show it yet
	y.must(r)
	plan(Change)
	y.mover.Done(y.term-1, NotMade) // of an earlier term
	plan(Wait)
	y.mover.Done(y.term, NotMade)
	c := plan(Change).Change
	y.mover.Done(y.term, Made)
	plan(Wait) // made, and not seen yet
	y.propose(c)
	y.must(plan(Report).Report)
	y.mover.Done(y.term, Made)
	plan(None)

	y.must(&meta.SetMap{Generation: y.view.Cluster.Generation, Groups: []meta.GroupWish{y.wish([]string{"a=voter"})}})
	y.must(plan(Report).Report)
	y.mover.Done(y.term, Made)
	plan(Change)
	y.mover.Done(y.term, Unknown)
	for range 50 {
		plan(Wait)
	}
	y.term++
	plan(Report)
}

// A node that leaves does not wait for what is under way: meta may be what it
// would have to hand over first.
func TestLeavingWaitsForNoStep(t *testing.T) {
	y := newToy(t.Fatalf)
	for _, n := range []string{"b", "c"} {
		y.must(&meta.JoinNode{Node: member(n)})
		y.must(&meta.SetNodeState{Node: nodeID(n), State: meta.NodeActive})
	}
	y.must(&meta.SetMap{Generation: y.view.Cluster.Generation, Groups: []meta.GroupWish{y.wish([]string{"a=voter*", "b=voter", "c=voter"})}})
	y.conf.Voters = nil
	for _, r := range y.view.Wish(partition) {
		y.conf.Voters = append(y.conf.Voters, r.ID)
	}
	y.catchUp()
	for _, want := range []Kind{Report, Wait} {
		if s := y.mover.Plan(y.input(y.view)); s.Kind != want {
			t.Fatalf("%+v, want %s", s, want)
		}
	}
	y.avoid = []identity.NodeID{nodeID("a")}
	if s := y.mover.Leave(y.input(y.view)); s.Kind != Transfer {
		t.Errorf("%+v", s)
	}
}

// Raft leaves a joint configuration by itself; if it was kept from it, it is
// told to after a while.
func TestAJointConfigurationIsLeft(t *testing.T) {
	y := newToy(t.Fatalf)
	y.conf = replica.Conf{Voters: []storage.ReplicaID{2}, Outgoing: []storage.ReplicaID{2, 7}, AutoLeave: true}
	for range 40 {
		y.now += 200 * time.Millisecond
		s := y.mover.Plan(y.input(y.view))
		if s.Kind == Wait {
			continue
		}
		if s.Kind != Change || !s.Change.LeaveJoint() || y.now < DefaultConfig().Retry {
			t.Fatalf("after %s: %+v", y.now, s)
		}
		return
	}
	t.Fatal("it stays joint")
}

// Who is to vote no more hands over first: it would take itself out.
func TestAJointConfigurationIsNotLeftByWhoLeaves(t *testing.T) {
	y := newToy(t.Fatalf)
	y.conf = replica.Conf{Voters: []storage.ReplicaID{7}, Outgoing: []storage.ReplicaID{2, 7}, AutoLeave: true}
	for range 40 {
		y.now += 200 * time.Millisecond
		in := y.input(y.view)
		in.Progress = []replica.Progress{{Replica: 7, Match: y.commit, Active: true}}
		s := y.mover.Plan(in)
		if s.Kind == Wait {
			continue
		}
		if s.Kind != Transfer || s.To != 7 {
			t.Fatalf("after %s: %+v", y.now, s)
		}
		return
	}
	t.Fatal("it leads on")
}

func TestNothingToDoForAnUnknownGroup(t *testing.T) {
	y := newToy(t.Fatalf)
	in := y.input(&meta.View{})
	if s := y.mover.Plan(in); s.Kind != None {
		t.Fatalf("%+v", s)
	}
	in = y.input(y.view)
	in.Conf = replica.SoleVoter(99)
	if s := y.mover.Plan(in); s.Kind != Wait {
		t.Fatalf("leading without a vote: %+v", s)
	}
}

func TestKindsAndSizesInWords(t *testing.T) {
	for k, want := range map[Kind]string{None: "none", Wait: "wait", Report: "report", Change: "change", Transfer: "transfer", 9: "kind(9)"} {
		if k.String() != want {
			t.Errorf("%d is %s", k, k)
		}
	}
	for n, want := range map[int64]string{2048: "2 KiB", 12 << 20: "12 MiB", 3 << 29: "1.5 GiB"} {
		if size(n) != want {
			t.Errorf("%d is %s", n, size(n))
		}
	}
}
