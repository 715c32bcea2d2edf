// Package logclock gives log time: the time that the replicated core counts
// retention, time to live and dedup windows in.
//
// Log time never falls. Among several voters it is the median of their clocks:
// a minority of wrong clocks changes nothing, whichever way and however far they
// are wrong, and a jump of this node's own clock is not followed at all. While
// too few clocks are known for an exact median, it goes on with the time that
// passes here, within the bounds that the known ones leave.
//
// A single voter follows its wall clock, with one exception: if that jumps
// forward by more than a minute while the node runs (somebody set the clock, or
// a virtual machine was paused), log time does not jump with it but gains on it
// slowly, since a jump would expire in one moment what was promised to be kept.
// Time that passed while the node was down is taken as it is: it really passed,
// as far as anyone can tell.
//
// [Core] is the rule, a pure function of the clocks that it is given. [Clock]
// reads them and may be used by many goroutines.
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
	now   int64         // last log time
	mono  time.Duration // last monotonic clock
	lag   time.Duration // by how much the wall clock was not believed
	fresh bool          // no time was given out yet
}

// NewCore begins at last, the greatest log time known from before. mono is the
// monotonic clock's reading at this moment.
func NewCore(last int64, mono time.Duration) *Core {
	return &Core{now: last, mono: mono, fresh: true}
}

// Raise makes log time at least t: what others have seen must not come again.
func (c *Core) Raise(t int64) { c.now = max(c.now, t) }

// Now returns log time for a moment at which the two clocks read wall and
// mono, and the other voters' ones what v says. mono never falls from call to
// call; wall and v may do anything.
func (c *Core) Now(wall int64, mono time.Duration, v Voters) int64 {
	passed := max(0, mono-c.mono)
	fresh := c.fresh
	c.mono, c.lag, c.fresh = mono, 0, false
	if !v.alone() {
		least, most := v.median(wall)
		c.now = max(c.now, min(max(c.now+int64(passed), least), most))
		return c.now
	}
	c.alone(wall, passed, fresh)
	return c.now
}

// alone is the rule of a single voter. The wall clock is measured against log
// time, not against its own last reading: one that is set back for a moment and
// then right again has not jumped.
func (c *Core) alone(wall int64, passed time.Duration, fresh bool) {
	ahead := time.Duration(wall - c.now)
	switch {
	case ahead <= 0:
		// Set back: log time waits for it.
	case fresh, ahead <= passed+Jump:
		c.now = wall
	default:
		c.now = min(wall, c.now+int64(passed+passed/slewShare))
		c.lag = time.Duration(wall - c.now)
	}
}

// Lag returns by how much a single voter's wall clock was not believed at the
// last call.
func (c *Core) Lag() time.Duration { return c.lag }
