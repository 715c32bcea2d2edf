package logclock

import (
	"sync"
	"time"
)

// Clock is a Core on this machine's clocks. Its methods may be called from
// several goroutines and do not block.
type Clock struct {
	wall  func() time.Time
	begin time.Time

	mu     sync.Mutex
	core   *Core
	voters func() Voters
}

// New returns a clock that begins no earlier than last, the greatest log time
// (Unix milliseconds) in the node's state. now is time.Now: its result must
// carry a monotonic reading. As long as Follow was not called, this node is
// the only voter.
func New(last int64, now func() time.Time) *Clock {
	return &Clock{
		wall: now, begin: now(), core: NewCore(last*int64(time.Millisecond), 0),
		voters: func() Voters { return Voters{} },
	}
}

// Follow has the clock ask voters, each time, for what is known of the other
// voters' clocks. It must be quick, must not call the clock, and is called by
// one goroutine at a time. A node of several voters calls Follow before the
// first NowMs: log time begins with this node's own clock otherwise.
func (c *Clock) Follow(voters func() Voters) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.voters = voters
}

// NowMs returns log time in milliseconds since the Unix epoch.
func (c *Clock) NowMs() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Read under the lock: of two readers the later one has the later reading.
	t := c.wall()
	return c.core.Now(t.UnixNano(), t.Sub(c.begin), c.voters()) / int64(time.Millisecond)
}

// Raise makes log time at least t, Unix milliseconds.
func (c *Clock) Raise(t int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.core.Raise(t * int64(time.Millisecond))
}

// Lag returns by how much the wall clock is not believed, for reports. It is
// known of a single voter only; of several, see Skew.
func (c *Clock) Lag() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.Lag()
}

// Skew returns by how much this node's wall clock is ahead of the voters'
// median at this moment, negative if it is behind, zero as long as too few
// clocks are known to tell.
func (c *Clock) Skew() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.voters().Skew(c.wall().UnixNano())
}

// Off says that this node's clock is further off the median than Limit: it
// should hand its leaderships over, and report itself.
func (c *Clock) Off() bool { return c.Skew().Abs() > Limit }
