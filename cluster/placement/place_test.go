package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// world is a cluster whose meta is real and whose groups do at once what the
// map wants.
type world struct {
	t     fataler
	view  *meta.View
	term  uint64
	nowMs int64
	lost  []identity.NodeID
	unfit []identity.NodeID
	in    Input
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func id(n int) identity.NodeID { return identity.NodeID{byte(n), 1} }

func newWorld(t fataler, partitions uint16, zone string) *world {
	w := &world{t: t, view: &meta.View{}, in: Input{Replication: 3, MaxMoves: 1000}}
	w.apply(&meta.Init{
		Cluster: meta.ClusterID{1}, Name: "test", Partitions: partitions, FeatureLevel: 1, Node: w.member(1, zone),
	})
	return w
}

func (w *world) member(n int, zone string) meta.Node {
	return meta.Node{ID: id(n), Name: fmt.Sprintf("n%d", n), Boot: 1, Zone: zone, Features: meta.Features{Min: 1, Max: 1}}
}

func (w *world) apply(c meta.Command) {
	w.t.Helper()
	w.nowMs++
	out, err := meta.Apply(w.view, c, meta.At{TimeMs: w.nowMs}, nil)
	if err != nil || out.Result.Err != nil {
		w.t.Fatalf("%T: %v %v", c, err, out.Result.Err)
	}
	w.view = out.View
}

func (w *world) join(n int, zone string) {
	w.t.Helper()
	w.apply(&meta.JoinNode{Node: w.member(n, zone)})
	w.set(n, meta.NodeActive)
}

func (w *world) set(n int, s meta.NodeState) { w.apply(&meta.SetNodeState{Node: id(n), State: s}) }

func (w *world) next() Result {
	in := w.in
	in.View, in.Lost, in.Unfit = w.view, w.lost, w.unfit
	return Next(in)
}

// step makes one step, without settling it.
func (w *world) step() Result {
	w.t.Helper()
	r := w.next()
	if len(r.Groups) > 0 {
		w.apply(&meta.SetMap{Generation: w.view.Cluster.Generation, Groups: r.Groups, Why: r.Why})
	}
	return r
}

// settle has every group report that it is as it should be, and every node
// that what is to be deleted is.
func (w *world) settle() {
	w.t.Helper()
	w.term++
	for _, p := range w.view.Placements {
		report := &meta.ReportGroup{Group: p.Group, Version: p.Version, Term: w.term}
		for _, r := range w.view.Wish(p.Group) {
			if r.Role == meta.Voter {
				report.Voters = append(report.Voters, r.ID)
			} else {
				report.Learners = append(report.Learners, r.ID)
			}
		}
		w.apply(report)
	}
	for _, r := range w.view.Replicas {
		if !r.State.Runs() {
			w.apply(&meta.ReplicaGone{Group: r.Group, Replica: r.ID})
		}
	}
}

// run goes on until nothing changes, and says in how many steps.
func (w *world) run() int {
	w.t.Helper()
	for n := range 300 {
		w.settle()
		if len(w.step().Groups) == 0 {
			return n
		}
	}
	w.t.Fatalf("no end after 300 steps: %+v", w.next())
	return 0
}

// on says where a group lies: voters, then learners in brackets, the leader
// with a star.
func (w *world) on(g storage.GroupID) string {
	var vs, ls []string
	for _, r := range w.view.Wish(g) {
		s := fmt.Sprint(r.Node[0])
		if r.Leader {
			s += "*"
		}
		if r.Role == meta.Voter {
			vs = append(vs, s)
		} else {
			ls = append(ls, s)
		}
	}
	slices.Sort(vs)
	slices.Sort(ls)
	if len(ls) > 0 {
		vs = append(vs, "("+strings.Join(ls, " ")+")")
	}
	return strings.Join(vs, " ")
}

func (w *world) expect(what string, groups map[storage.GroupID]string) {
	w.t.Helper()
	for g, want := range groups {
		got := strings.ReplaceAll(w.on(g), "*", "")
		if got != want {
			w.t.Fatalf("%s: group %d is on %s, want %s", what, g, got, want)
		}
	}
}

func all(partitions int, s string) map[storage.GroupID]string {
	m := map[storage.GroupID]string{}
	for p := range partitions {
		m[meta.PartitionGroup(uint16(p))] = s
	}
	return m
}

func with(m map[storage.GroupID]string, s string) map[storage.GroupID]string {
	m[meta.MetaGroup] = s
	return m
}

// One, two and three nodes, one of which fails, and back to one.
func TestGrowAndShrink(t *testing.T) {
	w := newWorld(t, 8, "")
	w.run()
	w.expect("one", with(all(8, "1"), "1"))
	w.join(2, "")
	w.run()
	w.expect("two", with(all(8, "1 (2)"), "1 (2)"))
	w.join(3, "")
	w.run()
	w.expect("three", with(all(8, "1 2 3"), "1 2 3"))

	w.lost = []identity.NodeID{id(2)}
	w.run()
	w.expect("one of three is lost", with(all(8, "1 2 3"), "1 2 3"))
	w.lost = []identity.NodeID{id(2), id(3)}
	w.run()
	w.expect("two of three are lost", with(all(8, "1 2 3"), "1 2 3"))
	w.lost = nil

	w.set(3, meta.NodeDraining)
	w.run()
	w.expect("one drains, those that stay are as two", with(all(8, "1 (2)"), "1 (2 3)"))
	if r := w.next(); len(r.Blocked) != 0 {
		t.Fatalf("blocked: %+v", r.Blocked)
	}
	w.set(3, meta.NodeActive)
	w.run()
	w.expect("it stays after all", with(all(8, "1 2 3"), "1 2 3"))
	w.set(3, meta.NodeDraining)
	w.run()
	w.set(2, meta.NodeDraining)
	w.run()
	w.expect("two drain", with(all(8, "1"), "1 (2 3)"))
	if r := w.next(); len(r.Blocked) != 0 {
		t.Fatalf("blocked: %+v", r.Blocked)
	}
	w.set(2, meta.NodeRemoved)
	w.set(3, meta.NodeRemoved)
	w.run()
	w.expect("one again", with(all(8, "1"), "1"))
}

func TestRemovalsOneByOne(t *testing.T) {
	w := newWorld(t, 4, "")
	w.join(2, "")
	w.join(3, "")
	w.run()
	w.set(1, meta.NodeRemoved)
	w.run()
	w.expect("the first is removed", with(all(4, "2 (3)"), "2 (3)"))
	w.set(2, meta.NodeDraining)
	w.run()
	w.expect("the voter drains", with(all(4, "3"), "3 (2)"))
}

// Of three voters, one is left where a node is asked to go: one that is there.
func TestTheOneThatIsLeftIsThere(t *testing.T) {
	w := newWorld(t, 4, "")
	w.join(2, "")
	w.join(3, "")
	w.run()
	w.unfit = []identity.NodeID{id(1)}
	w.set(3, meta.NodeDraining)
	w.run()
	w.expect("the first is away", with(all(4, "2 (1)"), "2 (1 3)"))
	w.unfit = []identity.NodeID{id(2)}
	w.run()
	w.expect("the only voter is away", with(all(4, "2 (1)"), "2 (1 3)"))
}

func TestNobodyLeft(t *testing.T) {
	w := newWorld(t, 4, "")
	w.join(2, "")
	w.join(3, "")
	w.run()
	for n := 1; n <= 3; n++ {
		w.set(n, meta.NodeDraining)
	}
	w.run()
	w.expect("all drain", with(all(4, "1 2 3"), "1 2 3"))
	if r := w.next(); len(r.Blocked) != 15 {
		t.Fatalf("blocked: %+v", r.Blocked)
	}
}

func TestALostNodeIsReplaced(t *testing.T) {
	w := newWorld(t, 16, "")
	for n := 2; n <= 4; n++ {
		w.join(n, "")
	}
	w.run()
	w.lost = []identity.NodeID{id(2)}
	w.run()
	w.expect("replaced", with(all(16, "1 3 4"), "1 3 4 (2)"))
}

// A removed node stays counted while the ones that could follow are lost.
func TestFailuresNeverTakeVotersAway(t *testing.T) {
	w := newWorld(t, 1, "")
	for n := 2; n <= 5; n++ {
		w.join(n, "")
	}
	w.run()
	var holders, others []int
	for n := 1; n <= 5; n++ {
		if strings.Contains(w.on(1), fmt.Sprint(n)) {
			holders = append(holders, n)
		} else {
			others = append(others, n)
		}
	}
	w.lost = []identity.NodeID{id(others[0]), id(others[1])}
	before := strings.ReplaceAll(w.on(1), "*", "")
	w.set(holders[0], meta.NodeRemoved)
	w.run()
	w.expect("removed", map[storage.GroupID]string{1: before})
	w.lost = w.lost[1:]
	w.run()
	if got := w.on(1); strings.Contains(got, fmt.Sprint(holders[0])) || !strings.Contains(got, fmt.Sprint(others[0])) {
		t.Fatalf("on %s", got)
	}
}

func TestMovesAFewAtATime(t *testing.T) {
	w := newWorld(t, 16, "")
	w.join(2, "")
	w.join(3, "")
	w.settle()
	w.in.MaxMoves = 3
	r := w.step()
	if len(r.Groups) != 3 || r.Moving != 3 || r.Groups[0].Group != meta.MetaGroup {
		t.Fatalf("%+v", r)
	}
	if !strings.HasPrefix(r.Why, "meta n2=voter n3=voter; partition 0 +n2 +n3") {
		t.Fatalf("why: %s", r.Why)
	}
	// None has reported: nothing more begins, until a node is lost.
	if r := w.step(); len(r.Groups) != 0 || r.Moving != 3 {
		t.Fatalf("%+v", r)
	}
	w.join(4, "")
	w.lost = []identity.NodeID{id(2)}
	if r := w.step(); len(r.Groups) != 3 || !strings.Contains(r.Why, "partition 0 +n4 -n2") {
		t.Fatalf("a lost node waits: %+v", r)
	}
	w.run()
	w.expect("in the end", with(all(16, "1 3 4"), "1 3 4 (2)"))
}

func TestAnOlderReplicaMustGoFirst(t *testing.T) {
	w := newWorld(t, 1, "")
	w.join(2, "")
	w.run()
	old, _ := w.view.ReplicaOn(1, id(2))
	g := meta.GroupWish{Group: 1}
	for _, r := range w.view.Wish(1)[:1] {
		g.Replicas = append(g.Replicas, meta.ReplicaWish{Replica: r.ID, Node: r.Node, Role: r.Role})
	}
	w.apply(&meta.SetMap{Generation: w.view.Cluster.Generation, Groups: []meta.GroupWish{g}})
	p, _ := w.view.Placement(1)
	w.apply(&meta.ReportGroup{Group: 1, Version: p.Version, Term: 9, Voters: []storage.ReplicaID{g.Replicas[0].Replica}})
	r := w.next()
	if len(r.Blocked) != 1 || !strings.Contains(r.Blocked[0].Text, "must delete its older replica first") {
		t.Fatalf("%+v", r)
	}
	w.apply(&meta.ReplicaGone{Group: 1, Replica: old})
	w.term = 9
	w.run()
	w.expect("placed", map[storage.GroupID]string{1: "1 (2)"})
}

// A replica that leaves and is wanted again before it is out keeps its id.
func TestUndrainedInTime(t *testing.T) {
	w := newWorld(t, 4, "")
	for n := 2; n <= 4; n++ {
		w.join(n, "")
	}
	w.run()
	before := slices.Clone(w.view.Replicas)
	w.set(2, meta.NodeDraining)
	w.step()
	w.set(2, meta.NodeActive)
	w.step()
	for _, r := range before {
		if r.Group == meta.MetaGroup {
			continue // its voter moved on to a node that has all of it already
		}
		if now, ok := w.view.Replica(r.Group, r.ID); !ok || now.State != meta.ReplicaWanted || now.Role != r.Role {
			t.Fatalf("replica %+v became %+v", r, now)
		}
	}
}

func TestLeadersAreBalanced(t *testing.T) {
	w := newWorld(t, 16, "")
	w.join(2, "")
	w.join(3, "")
	w.run()
	led := func() map[byte]int {
		m := map[byte]int{}
		for _, r := range w.view.Replicas {
			if r.Leader {
				m[r.Node[0]]++
			}
		}
		return m
	}
	if m := led(); m[1]+m[2]+m[3] != 17 || min(m[1], m[2], m[3]) != 5 {
		t.Fatalf("%v", m)
	}
	w.unfit = []identity.NodeID{id(3)}
	w.run()
	if m := led(); m[3] != 0 || m[1]+m[2] != 17 || min(m[1], m[2]) != 8 {
		t.Fatalf("%v", m)
	}
	before := w.view
	w.unfit = nil
	w.run()
	stayed := 0
	for _, r := range w.view.Replicas {
		if old, _ := before.Replica(r.Group, r.ID); r.Leader && old.Leader {
			stayed++
		}
	}
	if m := led(); min(m[1], m[2], m[3]) != 5 || stayed != 12 {
		t.Fatalf("%v, %d stayed", m, stayed)
	}
	w.set(1, meta.NodeDraining)
	w.run()
	if m := led(); m[1] != 0 {
		t.Fatalf("a draining node leads: %v", m)
	}
}

func TestNothingBeforeTheClusterIsMade(t *testing.T) {
	if r := Next(Input{View: &meta.View{}}); len(r.Groups) != 0 {
		t.Fatalf("%+v", r)
	}
}
