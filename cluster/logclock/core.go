// Package logclock gives log time: the time that the replicated core counts
// retention, time to live and dedup windows in.
//
// Log time never falls. It follows the wall clock, with one exception: if that
// jumps forward by more than a minute while the node runs (somebody set the
// clock, or a virtual machine was paused), log time does not jump with it but
// gains on it slowly, since a jump would expire in one moment what was
// promised to be kept. Time that passed while the node was down is taken as it
// is: it really passed, as far as anyone can tell.
//
// [Core] is the rule, a pure function of the two clocks that it is given.
// [Clock] reads them and may be used by many goroutines.
package logclock

import "time"

// Jump is how far the wall clock may run ahead of the time that passed before
// it is not believed at once.
const Jump = time.Minute

// slewShare is the part of the passing time by which log time gains on a wall
// clock that jumped: an hour's jump is caught up with in ten hours.
const slewShare = 10

// Core computes log time. It is made by NewCore. Wall clocks and log time are
// nanoseconds since the Unix epoch.
type Core struct {
	now  int64         // last log time
	mono time.Duration // last monotonic clock
	lag  time.Duration // by how much the wall clock was not believed
}

// NewCore begins at wall or last, the greatest log time known from before,
// whichever is greater. mono is the monotonic clock's reading at the same
// moment.
func NewCore(last, wall int64, mono time.Duration) *Core {
	return &Core{now: max(last, wall), mono: mono}
}

// Raise makes log time at least t: what others have seen must not come again.
func (c *Core) Raise(t int64) { c.now = max(c.now, t) }

// Now returns log time for a moment at which the two clocks read wall and
// mono. mono never falls from call to call; wall may do anything.
//
// The wall clock is measured against log time, not against its own last
// reading: one that is set back for a moment and then right again has not
// jumped.
func (c *Core) Now(wall int64, mono time.Duration) int64 {
	passed := max(0, mono-c.mono)
	c.mono, c.lag = mono, 0
	ahead := time.Duration(wall - c.now)
	switch {
	case ahead <= 0:
		// Set back: log time waits for it.
	case ahead <= passed+Jump:
		c.now = wall
	default:
		c.now = min(wall, c.now+int64(passed+passed/slewShare))
		c.lag = time.Duration(wall - c.now)
	}
	return c.now
}

// Lag returns by how much the wall clock was not believed at the last call.
func (c *Core) Lag() time.Duration { return c.lag }
