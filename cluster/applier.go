package cluster

import (
	"fmt"
	"runtime/debug"

	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/messages/envelope"
	"github.com/waystation/waystation/storage"
)

// applier is the apply loop: one goroutine that applies the committed entries
// of all groups, tells their state machines about leadership, and spills in
// slices between them.
type applier struct {
	engine *Engine
	items  queue[applyItem]
	losses queue[loss]
	orders queue[*spill]
	calls  queue[func()]
	spills []*spill
}

// loss is a leadership that ended.
type loss struct {
	group *group
	term  uint64
}

// spill is an order to copy what a group's entries up to upTo hold, or, if it is
// to be cheap, up to where hardly anything refers to them: upTo is then set to
// that. The answer goes to done, which has room for it.
type spill struct {
	group *group
	upTo  uint64
	cheap bool
	done  chan<- spillDone
	// photo, if it is set, gets the state at a moment at which all of it is
	// spilled, instead of an answer to done.
	photo chan<- photo
	// ranged is for photos that are looked at for long.
	ranged bool
	turns  int
}

type spillDone struct {
	spill *spill
	err   error
}

func newApplier(e *Engine) *applier {
	return &applier{engine: e, items: newQueue[applyItem](), losses: newQueue[loss](), orders: newQueue[*spill](), calls: newQueue[func()]()}
}

// lost orders LeaderStop. It goes past the entries that wait.
func (a *applier) lost(g *group, term uint64) {
	a.losses.push(loss{g, term})
	a.items.ring()
}

// order asks for a spill.
func (a *applier) order(s *spill) {
	a.orders.push(s)
	a.items.ring()
}

// call has done called by the loop once it has applied all that waits.
func (a *applier) call(done func()) {
	a.calls.push(done)
	a.items.ring()
}

func (a *applier) loop() {
	for a.items.wait(a.engine.quit) {
		calls := a.calls.take()
		a.stopLeaders()
		items := a.items.take()
		for i := range items {
			a.apply(&items[i])
			a.stopLeaders()
		}
		a.items.recycle(items)
		for _, done := range calls {
			done()
		}
		a.calls.recycle(calls)
		a.spillSlice()
	}
}

// end tells all state machines that still lead that it is over. The loop has
// ended.
func (a *applier) end(groups []*group) {
	for _, g := range groups {
		if g.started != 0 {
			a.stopLeader(g)
		}
	}
}

func (a *applier) stopLeaders() {
	losses := a.losses.take()
	for _, l := range losses {
		if l.group.started == l.term {
			a.stopLeader(l.group)
		}
	}
	a.losses.recycle(losses)
}

func (a *applier) stopLeader(g *group) {
	term := g.started
	g.started = 0
	if err := guarded(func() error { g.sm.LeaderStop(term); return nil }); err != nil {
		g.fail(fmt.Errorf("stop leading in term %d: %w", term, err))
	}
}

// apply applies a run of entries and reports it, unless the replica failed:
// its core then runs no more.
func (a *applier) apply(it *applyItem) {
	g := it.group
	for i := range it.job.Entries {
		if g.failure.Load() != nil {
			return
		}
		if err := a.applyOne(g, it.job.Entries[i]); err != nil {
			g.fail(fmt.Errorf("apply entry %d: %w", it.job.Entries[i].Index, err))
			return
		}
	}
	g.confirms.release(g.applied.Load())
	job := it.job
	g.post(func(in *input) { in.applied = append(in.applied, job) })
}

func (a *applier) applyOne(g *group, e storage.Entry) error {
	var result any
	change := replica.IsConfChange(&e)
	err := guarded(func() (err error) {
		if change {
			return a.applyConf(g, e)
		}
		result, err = g.sm.Apply(e)
		return err
	})
	if err != nil {
		return err
	}
	g.at = storage.Position{Index: e.Index, Term: e.Term}
	g.applied.Store(e.Index)
	a.engine.metrics.applied.Inc()
	if len(g.shots) > 0 {
		a.shoot(g)
	}
	if g.extent.grow(e.Index, len(e.Data)) {
		a.engine.truncator.check()
	}
	switch {
	case change:
		return nil
	case len(e.Data) == 0:
		return a.opened(g, e.Term)
	}
	a.answer(g, e, result)
	return nil
}

// opened tells the state machine that it leads, if the term that the entry
// opened is still this replica's own.
func (a *applier) opened(g *group, term uint64) error {
	if g.leads.Load() != term || g.started == term {
		return nil
	}
	if g.started != 0 {
		a.stopLeader(g)
	}
	g.started = term
	return guarded(func() error { g.sm.LeaderStart(term); return nil })
}

// answer gives the result to who proposed the entry. An entry that came into
// the log in another term than it was proposed in has nobody: its proposer was
// told ErrUnknown.
func (a *applier) answer(g *group, e storage.Entry, result any) {
	env, _, err := envelope.Parse(e.Data)
	if err == nil && env.Term == e.Term { // else it is the state machine's business what to make of it
		if done := g.waiters.take(env.Term, env.Proposal); done != nil {
			done(result, nil)
			return
		}
	}
	if r, ok := result.(Unwanted); ok {
		r.Drop()
	}
}

// spillSlice does one slice of one group's spill, and sees to it that the loop
// comes back for the next.
func (a *applier) spillSlice() {
	orders := a.orders.take()
	a.spills = append(a.spills, orders...)
	a.orders.recycle(orders)
	if len(a.spills) == 0 {
		return
	}
	s := a.spills[0]
	done, err := a.spillOnce(s)
	if done || err != nil {
		if s.photo != nil {
			a.takePhoto(s, err)
		} else {
			s.done <- spillDone{s, err}
		}
		a.spills = append(a.spills[:0], a.spills[1:]...)
	}
	if len(a.spills) > 0 {
		a.items.ring()
	}
}

func (a *applier) spillOnce(s *spill) (done bool, err error) {
	g := s.group
	switch {
	case g.failure.Load() != nil:
		return false, g.stopped()
	case g.installing:
		return false, errInstalling
	}
	budget := a.engine.cfg.SpillBytes
	if s.photo != nil {
		// What is applied moves on meanwhile: each turn does more, up to 64 times
		// as much, so that it is caught up with.
		s.upTo, budget = g.applied.Load(), budget<<min(s.turns, 6)
		s.turns++
	}
	err = guarded(func() (err error) {
		if s.cheap {
			s.cheap = false
			if s.upTo, err = g.sm.Settled(s.upTo); err != nil {
				return err
			}
		}
		done, err = g.sm.Spill(s.upTo, budget, g.entry)
		return err
	})
	if err != nil {
		g.fail(fmt.Errorf("spill entries up to %d: %w", s.upTo, err))
	}
	return done, err
}

// entry returns the data of an applied entry, from the cache or the log.
func (g *group) entry(index uint64) ([]byte, error) {
	if data, ok := g.cache.Data(index); ok {
		return data, nil
	}
	ents, err := g.engine.cfg.Log.Entries(g.id, index, index+1, 0)
	if err != nil {
		return nil, fmt.Errorf("read entry %d of group %d: %w", index, g.id, err)
	}
	return ents[0].Data, nil
}

// guarded turns a panic of a state machine into an error with its stack.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("state machine panicked: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}
