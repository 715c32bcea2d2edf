package cluster

import (
	"fmt"
	"time"
)

// ticker drives the clocks of all groups and watches the log writer.
type ticker struct{ engine *Engine }

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
