package cluster

import (
	"fmt"
	"sync/atomic"
	"time"
)

// ticker drives the clocks of all groups and watches the log writer.
type ticker struct {
	engine *Engine
	count  atomic.Uint64
}

func (t *ticker) loop() {
	tick := time.NewTicker(t.engine.cfg.Tick)
	defer tick.Stop()
	for {
		select {
		case <-t.engine.quit:
			return
		case <-tick.C:
		}
		t.watch()
		t.pass()
	}
}

// pass has a tick pass in all groups, and then wakes the workers of those for
// which something is due.
func (t *ticker) pass() {
	apart := uint64(t.engine.cfg.HeartbeatTicks)
	beat := t.count.Add(1)%apart == apart-1
	t.engine.hold()
	for _, g := range t.engine.list() {
		g.tick(beat)
	}
	for _, w := range t.engine.workers {
		w.groups.remind()
	}
	t.engine.release()
}

// watch ends a process whose disk hangs. Its heartbeats would go on, and with
// them a leadership under which nothing can be acknowledged: so first, after a
// much shorter time, the leaderships go to whoever can take them.
func (t *ticker) watch() {
	d := t.engine.writer.stuck()
	if d > t.engine.cfg.HandoverAfter {
		t.handOver()
	}
	if d > t.engine.cfg.SyncLimit {
		t.engine.fatal(fmt.Errorf("fsync hung: the raft log has been writing for %s, the limit is %s",
			d.Round(time.Millisecond), t.engine.cfg.SyncLimit))
	}
}

// handOver asks the most advanced of each group's other voters to take over.
// The others have what this node proposed: it is sent before it is written.
func (t *ticker) handOver() {
	for _, g := range t.engine.list() {
		if g.leads.Load() != 0 && !g.status.Load().SoleVoter {
			g.post(func(in *input) { in.handover = true })
		}
	}
}

// tick lets one tick pass. The only replica of a group, when it leads, has
// nobody to send a heartbeat to and nobody who could depose it: it is left
// asleep. So is a calm one until its ticks matter: with a leader's heartbeats,
// or when a follower should have heard one.
func (g *group) tick(beat bool) {
	leads := g.leads.Load() != 0
	if leads && g.status.Load().Alone {
		return
	}
	calm := g.calm.Load() && (!leads || !beat)
	b := &g.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.in.ticks++
	if !b.listed && (!calm || b.in.ticks >= g.engine.patience()) {
		b.listed = true
		g.worker.list(g)
	}
}

// patience is how many ticks wait for a calm follower to have other input: with
// more of them it should have heard its leader.
func (e *Engine) patience() int { return max(1, e.cfg.ElectionTicks/2) }

// calmed notes after a run whether the group's next ticks may wait.
func (g *group) calmed() {
	leads := g.leads.Load()
	g.calm.Store(g.core.Calm() && (leads == 0 || leads == g.inStep))
}

// beats says how many of n ticks a group is to count. Raft counts from when a
// replica became leader; a new leader waits a tick or two, so that the heartbeats
// of all groups of this node come with the same tick, in one frame a peer.
func (t *ticker) beats(g *group, n int) int {
	leads := g.leads.Load()
	switch {
	case n == 0 || leads == g.inStep:
		return n
	case leads != 0 && t.count.Load()%uint64(t.engine.cfg.HeartbeatTicks) != 0:
		return 0
	}
	g.inStep = leads
	return n
}
