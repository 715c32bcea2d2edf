package cluster

import (
	"fmt"
	"math/rand/v2"

	"github.com/waystation/waystation/storage"
)

// truncator keeps the logs short. A round takes every group that is worth it,
// so that they share one flush of the state: spill (by the apply loop), flush,
// look whether applied index and spill are durable, then truncate.
//
// There are two kinds of rounds. What is settled anyway is truncated soon, while
// most of it never left the memtable: workers that keep up cost no second write.
// What is not settled stays in the log as long as there is room, because spilling
// it is a second write.
type truncator struct {
	engine *Engine
	bell   chan struct{}
	next   int64 // bytes ever counted, of all groups, when settled entries are next looked for
}

func newTruncator(e *Engine) *truncator {
	t := &truncator{engine: e, bell: make(chan struct{}, 1)}
	t.next = t.step()
	return t
}

// check asks for a look at the logs' sizes. It does not block.
func (t *truncator) check() {
	select {
	case t.bell <- struct{}{}:
	default:
	}
}

func (t *truncator) loop() {
	for {
		select {
		case <-t.engine.quit:
			return
		case <-t.bell:
		}
		for t.round() {
			// What came in meanwhile may be worth another one.
		}
	}
}

// cut is a truncation in the making.
type cut struct {
	group *group
	upTo  uint64
	cheap bool // only as far as spilling costs next to nothing
}

// step is how much the logs may grow until settled entries are looked for. The nodes'
// logs grow alike: that no two steps are the same keeps their flushes from coming at
// the same moments.
func (t *truncator) step() int64 {
	most := t.engine.cfg.SettledLogBytes
	return most - rand.Int64N(most/4+1)
}

// settled looks at all groups once their logs have grown by some bytes together.
func (t *truncator) settled() []cut {
	var grown int64
	groups := t.engine.list()
	for _, g := range groups {
		grown += g.extent.grown()
	}
	if grown < t.next {
		return nil
	}
	t.next = grown + t.step()
	var cuts []cut
	for _, g := range groups {
		if upTo := g.applied.Load(); upTo > g.cutTo.Load() && g.failure.Load() == nil {
			cuts = append(cuts, cut{g, upTo, true})
		}
	}
	return cuts
}

// round truncates what is due, and says whether there was anything.
func (t *truncator) round() bool {
	cuts := t.due()
	if len(cuts) == 0 {
		cuts = t.settled()
	}
	if len(cuts) == 0 {
		return false
	}
	if cuts = t.spill(cuts); cuts == nil {
		return false
	}
	// Also when nothing can be cut: what is not flushed is applied again after a
	// crash, and a small memtable takes records faster.
	if err := t.engine.cfg.State.Flush(); err != nil {
		t.engine.fatal(fmt.Errorf("truncate raft logs: %w", err))
		return false
	}
	reader, release := t.engine.cfg.State.Durable()
	defer release()
	for _, c := range cuts {
		var durable bool
		err := guarded(func() (err error) {
			durable, err = c.group.sm.Durable(reader, c.upTo)
			return err
		})
		if err != nil {
			c.group.fail(fmt.Errorf("look for entry %d in the durable state: %w", c.upTo, err))
			continue
		}
		if !durable {
			t.engine.cfg.Logger.Error("log not truncated: a flushed state is not durable", "group", c.group.id, "index", c.upTo)
			continue
		}
		floor := c.group.extent.floor(t.hold())
		c.group.cutTo.Store(c.upTo)
		c.group.post(func(in *input) {
			in.truncate, in.floor = max(in.truncate, c.upTo), max(in.floor, floor)
		})
	}
	t.engine.metrics.truncations.Add(float64(len(cuts)))
	return len(cuts) > 0
}

// hold is how much of a group's log may be kept for replicas that lack it.
func (t *truncator) hold() int64 {
	cfg := &t.engine.cfg
	return min(cfg.HoldBytes, cfg.GroupLogBytes, cfg.TotalLogBytes/int64(max(1, len(t.engine.list()))))
}

// strain is how near to its limit the log is that g, as its leader, keeps for
// replicas which are being sent a snapshot: 0 up to strainFrom of the limit, 1 at
// it and beyond, where they will need another snapshot. 0 without any.
//
// Nothing else holds the log: a backup and a long read have all that they need
// spilled before they begin.
func (t *truncator) strain(g *group) float64 {
	if g.sends.Load() == 0 || g.leads.Load() == 0 {
		return 0
	}
	share := float64(g.extent.retained()) / float64(t.hold())
	return min(max(share-strainFrom, 0)/(1-strainFrom), 1)
}

// strainFrom is the share of the hold from which on it is said to be strained.
const strainFrom = 0.5

// Strain says how near the log of group g is to what may be kept of it for replicas
// that are being sent a snapshot: from 0, far or not at all, to 1, at it. Whoever
// proposes should slow down with it, or they never catch up.
func (e *Engine) Strain(g storage.GroupID) float64 {
	if gr := e.group(g); gr != nil {
		return e.truncator.strain(gr)
	}
	return 0
}

// strains is the greatest strain of all groups.
func (e *Engine) strains() (most float64) {
	for _, g := range e.list() {
		most = max(most, e.truncator.strain(g))
	}
	return most
}

// due picks the cuts of a round. A group's share is its own limit, or an equal
// part of the total when that is exceeded; half of the share is left.
func (t *truncator) due() []cut {
	cfg := &t.engine.cfg
	groups := t.engine.list()
	var total int64
	over := false
	for _, g := range groups {
		n := g.extent.retained()
		total += n
		over = over || n > cfg.GroupLogBytes
	}
	share := cfg.GroupLogBytes
	if total > cfg.TotalLogBytes {
		over, share = true, min(share, cfg.TotalLogBytes/int64(len(groups)))
	}
	if !over {
		return nil
	}
	var cuts []cut
	for _, g := range groups {
		if upTo := g.extent.target(share / 2); upTo > 0 && g.failure.Load() == nil {
			g.extent.ask(upTo)
			cuts = append(cuts, cut{g, upTo, false})
		}
	}
	return cuts
}

// spill has the apply loop copy what the cuts would lose, and returns the cuts
// for which that went well, or nil when the engine ends.
func (t *truncator) spill(cuts []cut) []cut {
	done := make(chan spillDone, len(cuts))
	for _, c := range cuts {
		t.engine.applier.order(&spill{group: c.group, upTo: c.upTo, cheap: c.cheap, done: done})
	}
	kept := cuts[:0:0]
	for range cuts {
		select {
		case <-t.engine.quit:
			return nil
		case d := <-done:
			if d.err == nil && d.spill.upTo > d.spill.group.cutTo.Load() {
				kept = append(kept, cut{d.spill.group, d.spill.upTo, false})
			}
		}
	}
	return kept
}
