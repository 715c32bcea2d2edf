package placement

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

func (w *world) groups() []storage.GroupID {
	out := make([]storage.GroupID, len(w.view.Placements))
	for i, p := range w.view.Placements {
		out[i] = p.Group
	}
	return out
}

func votersOf(v *meta.View, g storage.GroupID) (out []meta.Replica) {
	for _, r := range v.Wish(g) {
		if r.Role == meta.Voter {
			out = append(out, r)
		}
	}
	return out
}

// Whatever happens to the members, every step is one that meta takes, voters
// get fewer only where somebody asked, and there is an end.
func TestRandomClusters(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		zones := rapid.SliceOfN(rapid.SampledFrom([]string{"", "x", "y", "z"}), 9, 9).Draw(rt, "zones")
		w := newWorld(rt, uint16(rapid.IntRange(1, 24).Draw(rt, "partitions")), zones[0])
		w.in.Replication = rapid.IntRange(1, 6).Draw(rt, "replication")
		w.in.MaxMoves = rapid.IntRange(1, 20).Draw(rt, "moves")
		joined := 1
		for range rapid.IntRange(1, 25).Draw(rt, "events") {
			switch n := rapid.IntRange(1, joined).Draw(rt, "node"); rapid.IntRange(0, 7).Draw(rt, "event") {
			case 0, 1:
				if joined < 9 {
					w.join(joined+1, zones[joined])
					joined++
				}
			case 2:
				w.change(n, meta.NodeDraining)
			case 3:
				w.change(n, meta.NodeActive)
			case 4:
				if len(w.view.NodesIn(meta.NodeActive, meta.NodeDraining)) > 1 {
					w.change(n, meta.NodeRemoved)
				}
			case 5:
				w.lost = toggle(w.lost, id(n))
			case 6:
				w.unfit = toggle(w.unfit, id(n))
			case 7:
				w.settle()
			}
			w.checkedStep(rt)
		}
		for n := 0; ; n++ {
			w.settle()
			if w.checkedStep(rt) == 0 {
				break
			}
			if n > 200 {
				rt.Fatalf("no end: %+v", w.next())
			}
		}
		if w.settle(); len(w.next().Groups) != 0 {
			rt.Fatalf("no fixed point: %+v", w.next())
		}
		w.checkPlaces(rt)
		w.checkLeaders(rt)
	})
}

func (w *world) change(n int, s meta.NodeState) {
	if node, _ := w.view.Node(id(n)); node.State == meta.NodeRemoved {
		return
	}
	if s == meta.NodeRemoved && w.needed(n) {
		return
	}
	w.set(n, s)
}

// needed says that meta refuses to remove a node.
func (w *world) needed(n int) bool {
	c := &meta.SetNodeState{Node: id(n), State: meta.NodeRemoved}
	out, _ := meta.Apply(w.view, c, meta.At{}, nil)
	return errors.Is(out.Result.Err, meta.ErrLastCopies)
}

func toggle(s []identity.NodeID, n identity.NodeID) []identity.NodeID {
	if i := slices.Index(s, n); i >= 0 {
		return slices.Delete(slices.Clone(s), i, i+1)
	}
	return append(slices.Clone(s), n)
}

// checkedStep makes a step and returns how many groups it changed.
func (w *world) checkedStep(rt *rapid.T) int {
	before := w.view
	if again := w.next(); !reflect.DeepEqual(again, w.next()) {
		rt.Fatalf("two answers to one question: %+v, %+v", again, w.next())
	}
	r := w.step() // meta checks the map
	asked := len(w.view.NodesIn(meta.NodeActive))
	for _, g := range w.groups() {
		was, now := len(votersOf(before, g)), len(votersOf(w.view, g))
		most := w.in.Replication
		if g == meta.MetaGroup {
			most = meta.MaxVoters
		}
		if now < was && (asked >= was && most >= was) {
			rt.Fatalf("group %d went from %d to %d voters with %d nodes that nobody asked to go", g, was, now, asked)
		}
		for _, x := range w.view.Wish(g) {
			n, _ := w.view.Node(x.Node)
			_, old := before.Replica(g, x.ID)
			if !old && g != meta.MetaGroup && (n.State != meta.NodeActive || slices.Contains(w.lost, x.Node)) {
				rt.Fatalf("group %d: a new replica on node %s, which is %s or lost", g, n.Name, n.State)
			}
		}
	}
	return len(r.Groups)
}

// checkPlaces holds the end against what is promised.
func (w *world) checkPlaces(rt *rapid.T) {
	blocked := w.next().Blocked
	standing := slices.DeleteFunc(w.view.NodesIn(meta.NodeActive), func(n meta.Node) bool { return slices.Contains(w.lost, n.ID) })
	zoneOf := func(id identity.NodeID) string { n, _ := w.view.Node(id); return n.Zone }
	for _, g := range w.groups() {
		if slices.ContainsFunc(blocked, func(r Reason) bool { return r.Group == g }) {
			continue
		}
		wish := w.view.Wish(g)
		for _, r := range wish {
			n, _ := w.view.Node(r.Node)
			if n.State == meta.NodeRemoved || g != meta.MetaGroup && (n.State != meta.NodeActive || slices.Contains(w.lost, r.Node)) {
				rt.Fatalf("group %d stays on node %s, which is %s or lost, and nothing says why", g, n.Name, n.State)
			}
		}
		if g != meta.MetaGroup && len(wish) != min(w.in.Replication, len(w.view.NodesIn(meta.NodeActive))) {
			rt.Fatalf("group %d has %d copies", g, len(wish))
		}
		used := map[string]int{}
		vs := votersOf(w.view, g)
		for _, r := range vs {
			used[zoneOf(r.Node)]++
		}
		for zone, n := range used {
			for _, other := range standing {
				if n > 1 && used[other.Zone] == 0 {
					rt.Fatalf("group %d has %d voters in zone %q, none in %q, where %s stands", g, n, zone, other.Zone, other.Name)
				}
			}
		}
	}
}

// checkLeaders looks that no leadership could be handed on to even them out.
func (w *world) checkLeaders(rt *rapid.T) {
	led := map[identity.NodeID]int{}
	able := func(r meta.Replica) bool {
		n, _ := w.view.Node(r.Node)
		return r.Role == meta.Voter && n.State == meta.NodeActive && !slices.Contains(w.lost, r.Node) && !slices.Contains(w.unfit, r.Node)
	}
	for _, r := range w.view.Replicas {
		if r.Leader {
			led[r.Node]++
			if !able(r) {
				rt.Fatalf("replica %+v should not lead", r)
			}
		}
	}
	for _, g := range w.groups() {
		vs := slices.DeleteFunc(votersOf(w.view, g), func(r meta.Replica) bool { return !able(r) })
		i := slices.IndexFunc(vs, func(r meta.Replica) bool { return r.Leader })
		if i < 0 && len(vs) > 0 {
			rt.Fatalf("group %d: nobody should lead", g)
		}
		for _, r := range vs {
			if led[vs[i].Node] > led[r.Node]+1 {
				rt.Fatalf("group %d is led by a node with %d, %d lead less: %v", g, led[vs[i].Node], led[r.Node], led)
			}
		}
	}
}

// One node more takes its share, and hardly anything else moves; the same when
// it goes.
func TestANodeMovesItsShare(t *testing.T) {
	for nodes := 3; nodes <= 8; nodes++ {
		const partitions = 128
		w := newWorld(t, partitions, "")
		for n := 2; n <= nodes; n++ {
			w.join(n, "")
		}
		w.run()
		before := places(w.view)
		w.join(nodes+1, "")
		w.run()
		grown := places(w.view)
		w.set(nodes+1, meta.NodeRemoved)
		w.run()
		share := float64(partitions*3) / float64(nodes+1)
		for what, moved := range map[string]int{"joined": len(grown) - common(before, grown), "left": len(grown) - common(grown, places(w.view))} {
			if got := float64(moved) / share; got < 0.7 || got > 1.8 {
				t.Errorf("node %d %s: %d replicas moved, its share is %.0f", nodes+1, what, moved, share)
			}
		}
		load := map[identity.NodeID]int{}
		for p := range grown {
			load[p.node]++
		}
		for n, l := range load {
			if float64(l) > share+4 {
				t.Errorf("node %d of %d has %d replicas, an even share is %.0f", n[0], nodes+1, l, share)
			}
		}
	}
}

type place struct {
	group storage.GroupID
	node  identity.NodeID
}

func places(v *meta.View) map[place]bool {
	out := map[place]bool{}
	for _, r := range v.Replicas {
		if r.Group != meta.MetaGroup && r.State == meta.ReplicaWanted {
			out[place{r.Group, r.Node}] = true
		}
	}
	return out
}

func common(a, b map[place]bool) (n int) {
	for p := range a {
		if b[p] {
			n++
		}
	}
	return n
}
