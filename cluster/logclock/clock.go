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

	mu   sync.Mutex
	core *Core
}

// New returns a clock that begins no earlier than last, the greatest log time
// (Unix milliseconds) in the node's state. now is time.Now: its result must
// carry a monotonic reading.
func New(last int64, now func() time.Time) *Clock {
	begin := now()
	return &Clock{wall: now, begin: begin, core: NewCore(last*int64(time.Millisecond), begin.UnixNano(), 0)}
}

// NowMs returns log time in milliseconds since the Unix epoch.
func (c *Clock) NowMs() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Read under the lock: of two readers the later one has the later reading.
	t := c.wall()
	return c.core.Now(t.UnixNano(), t.Sub(c.begin)) / int64(time.Millisecond)
}

// Raise makes log time at least t, Unix milliseconds.
func (c *Clock) Raise(t int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.core.Raise(t * int64(time.Millisecond))
}

// Lag returns by how much the wall clock is not believed, for reports.
func (c *Clock) Lag() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.Lag()
}
