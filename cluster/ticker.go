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
		t.count.Add(1)
		for _, g := range t.engine.list() {
			g.tick()
		}
	}
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
// asleep.
func (g *group) tick() {
	if g.status.Load().Alone && g.leads.Load() != 0 {
		return
	}
	g.post(func(in *input) { in.ticks++ })
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
