package meta

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

func ids(n ...storage.ReplicaID) []storage.ReplicaID { return n }

// grown is a cluster of three active nodes, partition 0 (group 1) on all.
func grown(t *testing.T) *runner {
	r := newRunner(t)
	r.must(initCommand())
	for n := byte(2); n <= 3; n++ {
		r.must(&JoinNode{node(n, 1, uint64(n))})
		r.must(&SetNodeState{identity.NodeID{n}, NodeActive})
	}
	r.must(&SetMap{r.view.Cluster.Generation, []GroupWish{{1, []ReplicaWish{
		{2, identity.NodeID{1}, Voter, true}, {0, identity.NodeID{2}, Voter, false}, {0, identity.NodeID{3}, Voter, false},
	}}}, "grow"})
	return r
}

// wish is the present wish of group 1, to be changed.
func (r *runner) wish() GroupWish {
	g := GroupWish{Group: 1}
	for _, w := range r.view.Wish(1) {
		g.Replicas = append(g.Replicas, ReplicaWish{w.ID, w.Node, w.Role, w.Leader})
	}
	return g
}

func (r *runner) set(g GroupWish) error {
	return r.apply(&SetMap{r.view.Cluster.Generation, []GroupWish{g}, "test"}).Err
}

func (r *runner) report(term uint64, voters, learners []storage.ReplicaID) error {
	p, _ := r.view.Placement(1)
	return r.apply(&ReportGroup{Group: 1, Version: p.Version, Term: term, Voters: voters, Learners: learners}).Err
}

func (r *runner) states() string {
	var out []string
	for _, x := range r.view.GroupReplicas(1) {
		out = append(out, fmt.Sprintf("%d@%c %s %s", x.ID, 'a'+x.Node[0]-1, x.Role, x.State))
	}
	return strings.Join(out, ", ")
}

func TestAReplicasWay(t *testing.T) {
	r := grown(t)
	steps := []struct {
		name string
		do   func() error
		err  error
		want string
	}{
		{"grown", func() error { return nil }, nil, "2@a voter wanted, 8@b voter wanted, 9@c voter wanted"},
		{"reported on the way", func() error { return r.report(7, ids(2), ids(8, 9)) }, nil, "2@a voter wanted, 8@b voter wanted, 9@c voter wanted"},
		{"reported", func() error { return r.report(7, ids(2, 8, 9), nil) }, nil, "2@a voter wanted, 8@b voter wanted, 9@c voter wanted"},
		{"an older leader", func() error { return r.report(6, ids(2), nil) }, ErrStale, "2@a voter wanted, 8@b voter wanted, 9@c voter wanted"},
		{"two leave", func() error { g := r.wish(); g.Replicas = g.Replicas[:1]; return r.set(g) }, nil, "2@a voter wanted, 8@b voter leaving, 9@c voter leaving"},
		{"none may be gone yet", func() error { return r.apply(&ReplicaGone{1, 8}).Err }, ErrState, "2@a voter wanted, 8@b voter leaving, 9@c voter leaving"},
		{"a new one beside a leaving one", func() error {
			g := r.wish()
			g.Replicas = append(g.Replicas, ReplicaWish{Node: identity.NodeID{2}, Role: Learner})
			return r.set(g)
		}, ErrMap, "2@a voter wanted, 8@b voter leaving, 9@c voter leaving"},
		{"one comes back", func() error {
			g := r.wish()
			g.Replicas = append(g.Replicas, ReplicaWish{8, identity.NodeID{2}, Learner, false})
			return r.set(g)
		}, nil, "2@a voter wanted, 8@b learner wanted, 9@c voter leaving"},
		{"still a member", func() error { return r.report(7, ids(2, 8, 9), nil) }, nil, "2@a voter wanted, 8@b learner wanted, 9@c voter leaving"},
		{"out", func() error { return r.report(8, ids(2), ids(8)) }, nil, "2@a voter wanted, 8@b learner wanted, 9@c voter retired"},
		{"a retired one never comes back", func() error {
			g := r.wish()
			g.Replicas = append(g.Replicas, ReplicaWish{9, identity.NodeID{3}, Learner, false})
			return r.set(g)
		}, ErrNoReplica, "2@a voter wanted, 8@b learner wanted, 9@c voter retired"},
		{"gone", func() error { return r.apply(&ReplicaGone{1, 9}).Err }, nil, "2@a voter wanted, 8@b learner wanted"},
		{"doomed", func() error {
			for id, want := range map[storage.ReplicaID]bool{2: false, 8: false, 9: true, 10: false, 99: false} {
				if r.view.Doomed(1, id) != want {
					return fmt.Errorf("replica %d: %v", id, !want)
				}
			}
			return nil
		}, nil, "2@a voter wanted, 8@b learner wanted"},
		{"gone again", func() error { return r.apply(&ReplicaGone{1, 9}).Err }, nil, "2@a voter wanted, 8@b learner wanted"},
		{"another one", func() error {
			g := r.wish()
			g.Replicas = append(g.Replicas, ReplicaWish{0, identity.NodeID{3}, Learner, false})
			return r.set(g)
		}, nil, "2@a voter wanted, 8@b learner wanted, 10@c learner wanted"},
	}
	for _, s := range steps {
		if err := s.do(); !errors.Is(err, s.err) {
			t.Fatalf("%s: %v, want %v", s.name, err, s.err)
		}
		if got := r.states(); got != s.want {
			t.Fatalf("%s:\n got %s\nwant %s", s.name, got, s.want)
		}
	}
}

func TestMapIsComparedAndSwapped(t *testing.T) {
	r := grown(t)
	before := r.view.Cluster.Generation
	g := r.wish()
	g.Replicas[2].Role, g.Replicas[1].Role = Learner, Learner
	c := &SetMap{before, []GroupWish{g}, "x"}
	r.must(c)
	if err := r.apply(c).Err; !errors.Is(err, ErrStale) {
		t.Fatalf("the same map again: %v", err)
	}
	if r.view.Cluster.Generation != before+1 {
		t.Fatalf("generation %d", r.view.Cluster.Generation)
	}
	p, _ := r.view.Placement(1)
	if other, _ := r.view.Placement(2); p.Version != before+1 || other.Version != 1 || !p.Moving() || other.Moving() {
		t.Fatalf("versions %+v, %+v", p, other)
	}
	view := r.view
	if err := r.set(g); err != nil || r.view != view {
		t.Fatalf("a map that changes nothing: %v", err)
	}
	for name, bad := range map[string]GroupWish{
		"no such group":   {9, g.Replicas},
		"unknown node":    {1, []ReplicaWish{{0, identity.NodeID{9}, Voter, false}}},
		"two voters":      {1, []ReplicaWish{{2, identity.NodeID{1}, Voter, false}, {8, identity.NodeID{2}, Voter, false}}},
		"none":            {1, nil},
		"leading learner": {1, []ReplicaWish{{2, identity.NodeID{1}, Voter, false}, {8, identity.NodeID{2}, Learner, true}}},
		"twice on a node": {1, []ReplicaWish{{2, identity.NodeID{1}, Voter, false}, {0, identity.NodeID{1}, Learner, false}}},
		"another's":       {1, []ReplicaWish{{3, identity.NodeID{1}, Voter, false}}},
		"another node's":  {1, []ReplicaWish{{8, identity.NodeID{1}, Voter, false}}},
	} {
		if err := r.set(bad); !errors.Is(err, ErrMap) && !errors.Is(err, ErrNoReplica) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.apply(&SetMap{r.view.Cluster.Generation, []GroupWish{g, g}, ""}).Err; !errors.Is(err, ErrMap) {
		t.Errorf("a group twice: %v", err)
	}
}

func TestReportsOfAnotherVersionAreRefused(t *testing.T) {
	r := grown(t)
	old, _ := r.view.Placement(1)
	g := r.wish()
	g.Replicas = g.Replicas[:1]
	if err := r.set(g); err != nil {
		t.Fatal(err)
	}
	// A leader that does not know of the new wish says what is true of the old.
	late := &ReportGroup{Group: 1, Version: old.Version, Term: 9, Voters: ids(2)}
	if err := r.apply(late).Err; !errors.Is(err, ErrStale) {
		t.Fatalf("%v", err)
	}
	if got := r.states(); strings.Contains(got, "retired") {
		t.Fatal(got)
	}
	if err := r.apply(&ReportGroup{Group: 9, Version: 1, Term: 1, Voters: ids(1)}).Err; !errors.Is(err, ErrMap) {
		t.Fatalf("no such group: %v", err)
	}
	if err := r.report(9, ids(2), nil); err != nil {
		t.Fatal(err)
	}
	view := r.view
	if err := r.report(9, ids(2), nil); err != nil || r.view != view {
		t.Fatalf("the same report again: %v", err)
	}
	if p, _ := r.view.Placement(1); !p.Settled || p.Moving() || !slices.Equal(p.Voters, ids(2)) || p.Term != 9 {
		t.Fatalf("%+v", p)
	}
}

func TestQuarantineReplacement(t *testing.T) {
	r := grown(t)
	if err := r.report(7, ids(2, 8, 9), nil); err != nil {
		t.Fatal(err)
	}
	res := r.must(&ReplaceReplica{1, 8, "flipped bit"})
	if res.Replica != 10 {
		t.Fatalf("successor %d", res.Replica)
	}
	if again := r.must(&ReplaceReplica{1, 8, "flipped bit"}); again.Replica != 10 {
		t.Fatalf("replaced again by %d", again.Replica)
	}
	want := "2@a voter wanted, 8@b voter broken, 9@c voter wanted, 10@b voter wanted"
	if got := r.states(); got != want {
		t.Fatal(got)
	}
	if id, ok := r.view.ReplicaOn(1, identity.NodeID{2}); !ok || id != 10 {
		t.Fatalf("node b runs %d", id)
	}
	// A second one: what is left would be no majority.
	for _, id := range ids(2, 9) {
		if err := r.apply(&ReplaceReplica{1, id, "too"}).Err; !errors.Is(err, ErrLastCopies) {
			t.Fatalf("second quarantine: %v", err)
		}
	}
	// Its successor may break as well.
	if res := r.must(&ReplaceReplica{1, 10, "again"}); res.Replica != 11 {
		t.Fatalf("%+v", res)
	}
	r.must(&ReplicaGone{1, 8})
	if got := r.states(); !strings.Contains(got, "8@b voter erased") {
		t.Fatal(got)
	}
	if err := r.report(7, ids(2, 9), ids(11)); err != nil {
		t.Fatal(err)
	}
	if got := r.states(); got != "2@a voter wanted, 9@c voter wanted, 10@b voter retired, 11@b voter wanted" {
		t.Fatal(got)
	}
	if err := r.apply(&ReplaceReplica{1, 99, ""}).Err; !errors.Is(err, ErrNoReplica) {
		t.Fatalf("no such replica: %v", err)
	}
	if err := r.apply(&ReplaceReplica{2, 3, "sole voter"}).Err; !errors.Is(err, ErrLastCopies) {
		t.Fatalf("sole voter: %v", err)
	}
}

// The map wants b for the only voter, and b is damaged before it votes: the wish is
// taken back, since nobody knows whether b votes by now; once it is known that it
// does not, it is replaced.
func TestADamagedVoterToBe(t *testing.T) {
	for name, votes := range map[string]bool{"it did not vote": false, "it voted already": true} {
		r := grown(t)
		if err := r.report(7, ids(2), ids(8, 9)); err != nil {
			t.Fatal(err)
		}
		if err := r.set(GroupWish{1, []ReplicaWish{{2, identity.NodeID{1}, Learner, false}, {8, identity.NodeID{2}, Voter, true}}}); err != nil {
			t.Fatal(err)
		}
		if err := r.report(7, ids(2), ids(8, 9)); err != nil {
			t.Fatal(err)
		}
		before, _ := r.view.Placement(1)
		if res := r.must(&ReplaceReplica{1, 8, "bad"}); res.Replica != 0 {
			t.Fatalf("replaced by %d", res.Replica)
		}
		if got := r.states(); got != "2@a voter wanted, 8@b learner wanted, 9@c voter leaving" {
			t.Fatal(got)
		}
		if now, _ := r.view.Placement(1); now.Version <= before.Version || !now.Moving() {
			t.Fatalf("version %d, was %d", now.Version, before.Version)
		}
		if err := r.apply(&ReportGroup{Group: 1, Version: before.Version, Term: 7, Voters: ids(8)}).Err; !errors.Is(err, ErrStale) {
			t.Fatal(err)
		}
		voters, want := ids(2), error(nil)
		if votes {
			voters, want = ids(8), ErrLastCopies
		}
		if err := r.report(8, voters, nil); err != nil {
			t.Fatal(err)
		}
		if err := r.apply(&ReplaceReplica{1, 8, "bad"}).Err; !errors.Is(err, want) {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// While a group grows, the map's three voters are one in fact: that one may not
// go, the new ones may.
func TestTheReportedVotersCount(t *testing.T) {
	r := grown(t)
	if err := r.report(7, ids(2), ids(8, 9)); err != nil {
		t.Fatal(err)
	}
	if err := r.apply(&ReplaceReplica{1, 2, "bad"}).Err; !errors.Is(err, ErrLastCopies) {
		t.Fatalf("the only voter: %v", err)
	}
	r.must(&ReplaceReplica{1, 8, "bad"})
}

func TestARemovedNodeNeedNotConfirm(t *testing.T) {
	r := grown(t)
	if err := r.report(7, ids(2, 8, 9), nil); err != nil {
		t.Fatal(err)
	}
	r.reportMeta()
	r.must(&SetNodeState{identity.NodeID{3}, NodeRemoved})
	g := r.wish()
	g.Replicas = g.Replicas[:1]
	if err := r.set(g); err != nil {
		t.Fatal(err)
	}
	if err := r.report(8, ids(2), nil); err != nil {
		t.Fatal(err)
	}
	if got := r.states(); got != "2@a voter wanted, 8@b voter retired" {
		t.Fatal(got)
	}
	r.must(&SetNodeState{identity.NodeID{2}, NodeRemoved})
	if got := r.states(); got != "2@a voter wanted" {
		t.Fatal(got)
	}
	g.Replicas = append(g.Replicas, ReplicaWish{Node: identity.NodeID{2}, Role: Learner})
	if err := r.set(g); !errors.Is(err, ErrMap) {
		t.Fatalf("a removed node: %v", err)
	}
}
