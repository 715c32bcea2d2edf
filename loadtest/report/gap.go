package report

import (
	"sync/atomic"
	"time"
)

// Gap finds the longest time without an event while it was watched. Times are
// durations since the run began. Safe for several goroutines.
type Gap struct {
	last, longest atomic.Int64
	watching      atomic.Bool
}

// Begin starts watching.
func (g *Gap) Begin(at time.Duration) {
	g.last.Store(int64(at))
	g.watching.Store(true)
}

// Event notes that something happened at that time.
func (g *Gap) Event(at time.Duration) {
	if !g.watching.Load() {
		return
	}
	g.note(int64(at))
}

func (g *Gap) note(at int64) {
	// Goroutines may come a little out of order: only what advances counts.
	for {
		last := g.last.Load()
		if at <= last {
			return
		}
		if !g.last.CompareAndSwap(last, at) {
			continue
		}
		for gap := at - last; ; {
			longest := g.longest.Load()
			if gap <= longest || g.longest.CompareAndSwap(longest, gap) {
				return
			}
		}
	}
}

// End stops watching: the time since the last event counts too.
func (g *Gap) End(at time.Duration) {
	if g.watching.Swap(false) {
		g.note(int64(at))
	}
}

// Longest returns the longest time without an event.
func (g *Gap) Longest() time.Duration { return time.Duration(g.longest.Load()) }
