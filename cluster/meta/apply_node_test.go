package meta

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

func TestJoin(t *testing.T) {
	r := newRunner(t)
	if err := r.apply(&JoinNode{node(2, 1, 2)}).Err; !errors.Is(err, ErrNotMade) {
		t.Fatalf("before init: %v", err)
	}
	r.must(initCommand())
	generation := r.view.Cluster.Generation
	id := r.must(&JoinNode{node(2, 1, 2)}).Replica
	if again := r.must(&JoinNode{node(2, 1, 2)}).Replica; id != 6 || again != id {
		t.Fatalf("replicas %d, %d", id, again)
	}
	if on, ok := r.view.ReplicaOn(MetaGroup, identity.NodeID{2}); !ok || on != id || r.view.Cluster.Generation != generation+1 {
		t.Fatalf("%+v", r.view)
	}
	if got := r.must(&JoinNode{node(2, 2, 7)}).Replica; got != id {
		t.Fatalf("joined again after a restart: replica %d", got)
	}
	named := func(n Node, name string) Node { n.Name = name; return n }
	featured := func(n Node, lo, hi uint32) Node { n.Features = Features{lo, hi}; return n }
	for _, c := range []struct {
		name string
		do   Command
		want error
	}{
		{"taken name", &JoinNode{named(node(3, 1, 1), "a")}, ErrNameTaken},
		{"taken name at a start", &StartNode{named(node(2, 3, 1), "a")}, ErrNameTaken},
		{"program too new", &JoinNode{featured(node(3, 1, 1), 2, 3)}, ErrFeature},
		{"program too old", &JoinNode{featured(node(3, 1, 1), 0, 0)}, ErrFeature},
		{"program too new at a start", &StartNode{featured(node(2, 3, 1), 2, 3)}, ErrFeature},
		{"a copied folder", &JoinNode{node(2, 2, 8)}, ErrCopy},
		{"a folder put back", &JoinNode{node(2, 1, 2)}, ErrCopy},
	} {
		err := r.apply(c.do).Err
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := r.apply(&JoinNode{named(node(3, 1, 1), "a")}).Err; !strings.Contains(err.Error(), `"a" is node 01`) {
		t.Errorf("a taken name is refused with %q", err)
	}
	if n, _ := r.view.Node(identity.NodeID{2}); n.State != NodeJoining || n.Boot != 2 || n.JoinedMs != 3 {
		t.Errorf("%+v", n)
	}
}

func TestStartUpdatesWhatANodeSays(t *testing.T) {
	r := newRunner(t)
	r.must(initCommand())
	n := node(1, 2, 12)
	n.Addresses, n.Zone, n.Version, n.Name = Addresses{"g:1", "h:1", "p:1", "s:1"}, "east", "v2", "other"
	r.must(&StartNode{n})
	n.Addresses.GRPC = "g:2"
	r.must(&StartNode{n}) // the same start, a new address
	got, ok := r.view.NodeByName("other")
	if !ok || got.Addresses != n.Addresses || got.Zone != "east" || got.State != NodeActive || got.JoinedMs != 1 {
		t.Fatalf("%+v", got)
	}
	if _, ok := r.view.NodeByName("a"); ok {
		t.Fatal("the old name is still taken")
	}
}

func TestNodeStates(t *testing.T) {
	r := newRunner(t)
	r.must(initCommand())
	r.must(&JoinNode{node(2, 1, 2)})
	b := identity.NodeID{2}
	if err := r.apply(&SetNodeState{b, NodeRemoved}).Err; !errors.Is(err, ErrLastCopies) {
		t.Fatalf("nobody knows who votes in meta: %v", err)
	}
	r.reportMeta()
	for _, s := range []struct {
		to   NodeState
		want error
	}{
		{NodeActive, nil},
		{NodeActive, nil},
		{NodeDraining, nil},
		{NodeActive, nil},
		{NodeDraining, nil},
		{NodeRemoved, nil},
		{NodeRemoved, nil},
		{NodeActive, ErrState},
		{NodeDraining, ErrState},
	} {
		if err := r.apply(&SetNodeState{b, s.to}).Err; !errors.Is(err, s.want) {
			t.Errorf("%s: %v, want %v", s.to, err, s.want)
		}
	}
	if err := r.apply(&SetNodeState{identity.NodeID{9}, NodeActive}).Err; !errors.Is(err, ErrNoNode) {
		t.Errorf("unknown node: %v", err)
	}
	for _, c := range []Command{&JoinNode{node(2, 2, 3)}, &StartNode{node(2, 2, 3)}, &JoinNode{node(2, 1, 2)}} {
		if err := r.apply(c).Err; !errors.Is(err, ErrRemoved) {
			t.Errorf("a removed node comes back with %T: %v", c, err)
		}
	}
	c := node(3, 1, 1)
	c.Name = "b"
	r.must(&JoinNode{c}) // a removed node's name is free
	if len(r.view.NodesIn(NodeActive, NodeJoining)) != 2 || len(r.view.NodesIn(NodeRemoved)) != 1 {
		t.Errorf("%+v", r.view.Nodes)
	}
}

// reportMeta has the meta group report that it is as the map wants it.
func (r *runner) reportMeta() {
	p, _ := r.view.Placement(MetaGroup)
	report := &ReportGroup{Group: MetaGroup, Version: p.Version, Term: max(p.Term, 5)}
	for _, w := range r.view.Wish(MetaGroup) {
		if w.Role == Voter {
			report.Voters = append(report.Voters, w.ID)
		} else {
			report.Learners = append(report.Learners, w.ID)
		}
	}
	r.must(report)
}

// A node without whose copies some group has no majority may not be removed.
func TestANeededNodeIsNotRemoved(t *testing.T) {
	r := grown(t)
	a, b, c := identity.NodeID{1}, identity.NodeID{2}, identity.NodeID{3}
	r.reportMeta()
	remove := func(n identity.NodeID, want error) {
		t.Helper()
		if err := r.apply(&SetNodeState{n, NodeRemoved}).Err; !errors.Is(err, want) {
			t.Fatalf("%v: %v, want %v", n, err, want)
		}
	}
	remove(a, ErrLastCopies) // the only voter of meta, and, as far as is known, of all else
	g := func(id storage.GroupID, wish ...ReplicaWish) {
		r.must(&SetMap{r.view.Cluster.Generation, []GroupWish{{id, wish}}, ""})
		p, _ := r.view.Placement(id)
		report := &ReportGroup{Group: id, Version: p.Version, Term: 7}
		for _, w := range r.view.Wish(id) {
			report.Voters = append(report.Voters, w.ID)
		}
		r.must(report)
	}
	remove(b, ErrLastCopies) // it is to vote beside a, and may do so by now
	g(1, r.wish().Replicas...)
	remove(a, ErrLastCopies) // meta is still a's
	for id := MetaGroup; id <= PartitionGroup(r.view.Cluster.Partitions-1); id++ {
		var wish []ReplicaWish
		for _, n := range []identity.NodeID{a, b, c} {
			has, _ := r.view.ReplicaOn(id, n)
			wish = append(wish, ReplicaWish{has, n, Voter, n == b})
		}
		g(id, wish...)
	}
	drawn := &SetMap{r.view.Cluster.Generation, []GroupWish{{1, r.wish().Replicas[:1]}}, ""}
	remove(a, nil)           // b and c are a majority of three
	remove(b, ErrLastCopies) // c alone is none
	if err := r.apply(drawn).Err; !errors.Is(err, ErrStale) {
		t.Fatalf("a map from before, which makes a the only voter: %v", err)
	}
}

// A group on its way to one voter goes on to it, though the map wants three again by
// now, until its leader has seen that map and says so.
func TestANodeThatAnOlderMapCountsOnIsNotRemoved(t *testing.T) {
	r := grown(t)
	a := identity.NodeID{1}
	report := func(term uint64, voters, learners []storage.ReplicaID) {
		t.Helper()
		if err := r.report(term, voters, learners); err != nil {
			t.Fatal(err)
		}
	}
	report(5, ids(2, 8, 9), nil)
	for id := MetaGroup; id <= PartitionGroup(r.view.Cluster.Partitions-1); id++ {
		if id == 1 {
			continue
		}
		has, _ := r.view.ReplicaOn(id, identity.NodeID{2})
		r.must(&SetMap{r.view.Cluster.Generation, []GroupWish{{id, []ReplicaWish{{has, identity.NodeID{2}, Voter, true}}}}, ""})
		p, _ := r.view.Placement(id)
		r.must(&ReportGroup{Group: id, Version: p.Version, Term: 5, Voters: ids(r.view.Wish(id)[0].ID)})
	}
	three := r.wish()
	one := r.wish()
	one.Replicas = one.Replicas[:1]
	if err := r.set(one); err != nil {
		t.Fatal(err)
	}
	report(5, ids(2, 8, 9), nil) // it sees the map, and makes its first voter the only one
	if err := r.set(three); err != nil {
		t.Fatal(err)
	}
	if err := r.apply(&SetNodeState{a, NodeRemoved}).Err; !errors.Is(err, ErrLastCopies) {
		t.Fatalf("%v, want %v", err, ErrLastCopies)
	}
	report(5, ids(2, 8, 9), nil) // three, by the newest map
	if err := r.apply(&SetNodeState{a, NodeRemoved}).Err; err != nil {
		t.Fatal(err)
	}
}

func TestFeatureLevel(t *testing.T) {
	r := newRunner(t)
	r.must(initCommand())
	old := node(2, 1, 2)
	old.Features = Features{1, 1}
	r.must(&JoinNode{old})
	if err := r.apply(&RaiseFeature{2}).Err; !errors.Is(err, ErrFeature) || !strings.Contains(err.Error(), "node b") {
		t.Fatalf("%v", err)
	}
	r.must(&RaiseFeature{1})
	r.reportMeta()
	r.must(&SetNodeState{old.ID, NodeRemoved})
	r.must(&RaiseFeature{2})
	r.must(&RaiseFeature{2})
	if r.view.Cluster.FeatureLevel != 2 {
		t.Fatalf("%+v", r.view.Cluster)
	}
}

func numbered(i int) Node {
	n := node(1, 1, uint64(i))
	n.ID = identity.NodeID{0xee}
	binary.BigEndian.PutUint32(n.ID[4:], uint32(i))
	n.Name = "n" + n.ID.String()
	return n
}

func TestNodesAreBounded(t *testing.T) {
	r := newRunner(t)
	r.must(initCommand())
	for i := range MaxNodes - 1 {
		r.must(&JoinNode{numbered(i)})
	}
	if err := r.apply(&JoinNode{numbered(MaxNodes)}).Err; !errors.Is(err, ErrTooMany) {
		t.Fatalf("%v", err)
	}
	// Removed ones make room, and the oldest of them are forgotten one day.
	for i := range MaxRemoved + 10 {
		n := numbered(i)
		if i >= MaxNodes-1 {
			r.must(&JoinNode{n})
		}
		r.reportMeta()
		r.must(&SetNodeState{n.ID, NodeRemoved})
		r.must(&SetMap{r.view.Cluster.Generation, []GroupWish{{MetaGroup, []ReplicaWish{{1, identity.NodeID{1}, Voter, true}}}}, ""})
		p, _ := r.view.Placement(MetaGroup)
		r.must(&ReportGroup{Group: MetaGroup, Version: p.Version, Term: 5, Voters: ids(1)})
	}
	if n := len(r.view.NodesIn(NodeRemoved)); n != MaxRemoved {
		t.Fatalf("%d removed nodes are remembered", n)
	}
	if _, ok := r.view.Node(numbered(9).ID); ok {
		t.Fatal("the oldest removed node was not forgotten first")
	}
	if err := r.apply(&StartNode{numbered(9)}).Err; !errors.Is(err, ErrNoNode) {
		t.Fatalf("a forgotten node starts: %v", err)
	}
	if len(r.view.Operations) != MaxOperations || len(r.view.Replicas) != 5 {
		t.Fatalf("%d operations, %d replicas", len(r.view.Operations), len(r.view.Replicas))
	}
	if first, last := r.view.Operations[0], r.view.Operations[MaxOperations-1]; last.Seq-first.Seq != MaxOperations-1 || last.TimeMs <= first.TimeMs {
		t.Fatalf("operations %+v to %+v", first, last)
	}
}

func TestOperationTexts(t *testing.T) {
	for in, want := range map[string]string{"ab": "ab", "aäb": "aä", "\xffa": "?a", "aaä": "aa"} {
		if got := cut(in, 3); got != want {
			t.Errorf("%q was cut to %q, want %q", in, got, want)
		}
	}
}
