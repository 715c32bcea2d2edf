package actors

import (
	"cmp"
	"slices"
	"time"

	"github.com/waystation/waystation/internal/cadence"
)

// passivate asks an actor to stop if it has nothing to do. Stopping an actor from
// outside loses what its mailbox holds; so the actor itself closes the mailbox,
// and only if nothing was admitted since.
type passivate struct{}

// sweepInterval is how often idle actors are looked for, and the drain rate is
// measured.
const sweepInterval = 500 * time.Millisecond

// sweep runs until the relay stops.
func (r *Relay) sweep() {
	defer r.loops.Done()
	timer := time.NewTimer(cadence.Until(time.Now(), sweepInterval))
	defer timer.Stop()
	for {
		select {
		case <-r.stopping:
			return
		case <-timer.C:
			timer.Reset(cadence.Until(time.Now(), sweepInterval))
			r.intake.measure(r.now())
			r.dispatcher.reinforce()
			r.passivateIdle()
		case <-r.crowded:
		}
		r.passivateOldest()
	}
}

func (r *Relay) sweepSoon() {
	select {
	case r.crowded <- struct{}{}:
	default:
	}
}

func (r *Relay) passivateIdle() {
	now := r.now()
	var idle []*resident
	for _, p := range r.partitions {
		p.actors.each(func(x *resident) {
			if x.idleFor(now) >= r.cfg.IdleAfter {
				idle = append(idle, x)
			}
		})
	}
	for _, x := range idle {
		x.askToGo()
	}
}

// passivateOldest brings the number of actors an eighth below the limit, least
// recently used first, so that it has not to look for them at each new one.
func (r *Relay) passivateOldest() {
	over := int(r.active.Load()) - r.cfg.MaxActors
	if over <= 0 {
		return
	}
	all := make([]*resident, 0, r.active.Load())
	for _, p := range r.partitions {
		p.actors.each(func(x *resident) { all = append(all, x) })
	}
	slices.SortFunc(all, func(a, b *resident) int { return cmp.Compare(a.used.Load(), b.used.Load()) })
	for _, x := range all[:min(over+r.cfg.MaxActors/8, len(all))] {
		x.askToGo()
	}
}

// askToGo posts one request at a time: an actor that is suspended after a failure
// must not gather them.
func (r *resident) askToGo() {
	if r.passing.CompareAndSwap(false, true) {
		r.mailbox.PostControl(passivate{})
	}
}
