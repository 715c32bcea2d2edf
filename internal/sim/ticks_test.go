package sim

import (
	"time"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/storage"
)

// ticking is a group's ticks as the engine has them: in a calm group they wait, and
// are counted late and in a lump, before whatever else comes next.
type ticking struct {
	ticks  int
	calm   bool
	inStep uint64 // the term whose heartbeats come with those of other groups
}

// pace is how far the engine has raft's ticks apart.
var pace = cluster.DefaultConfig()

// tick lets n ticks pass at once, as on a node that was stalled meanwhile.
func (l *life) tick(n int) {
	l.w.now += time.Duration(n) * 50 * time.Millisecond / time.Duration(l.w.set.Nodes)
	beat := false
	for range n {
		l.count++
		beat = beat || l.count%uint64(pace.HeartbeatTicks) == uint64(pace.HeartbeatTicks)-1
	}
	for _, g := range l.groups {
		g.tick(n, beat)
		if g.leader != nil {
			g.leader.tick()
		}
		g.drain()
	}
	l.expireCalls()
}

// tick counts n ticks, or leaves them for later.
func (g *group) tick(n int, beat bool) {
	leads := g.leads != 0
	if g.w.set.Late == 0 {
		g.core.Tick(n)
		return
	}
	if leads && g.core.Alone() {
		return
	}
	calm := g.calm && (!leads || !beat)
	if g.ticks += n; calm && g.ticks < max(1, pace.ElectionTicks/2) {
		return
	}
	if g.calm {
		g.wake()
		return
	}
	n, g.ticks = g.ticks, 0
	g.core.Tick(g.beats(n))
}

// wake counts the ticks that wait, if there are any, before something else comes.
func (g *group) wake() {
	if n := g.ticks; n > 0 && g.calm {
		g.ticks = 0
		g.w.note("%d.%d counts %d ticks late", g.life.id, g.id, n)
		g.core.Late(g.beats(n))
	}
}

// calmed says, after a run, whether the next ticks may wait.
func (g *group) calmed() {
	g.calm = g.w.set.Late != 0 && g.core.Calm() && (g.leads == 0 || g.leads == g.inStep)
}

// beats says how many of n ticks are counted: the heartbeats of a new leader fall
// into step with those of the node's other groups.
func (g *group) beats(n int) int {
	switch {
	case n == 0 || g.leads == g.inStep:
		return n
	case g.leads != 0 && g.life.count%uint64(pace.HeartbeatTicks) != 0:
		return 0
	}
	g.inStep = g.leads
	return n
}

// gone tells a node that the process of another machine has ended, true or not.
// The groups whose leader it believes there forget it.
func (l *life) gone(machine int) bool {
	some := false
	for _, g := range l.groups {
		if id := g.follows(machine); id != 0 {
			g.wake()
			g.core.Gone(id)
			g.drain()
			some = true
		}
	}
	if some && l.w.nodes[machine].life != nil {
		l.w.mistaken++
	}
	return some
}

// follows returns the replica that this one follows, if that lives on a machine.
func (g *group) follows(machine int) storage.ReplicaID {
	id := g.core.Status().Leader
	if id == 0 || id == g.replica || g.life.resolve(g.id, id) != machine {
		return 0
	}
	return id
}
