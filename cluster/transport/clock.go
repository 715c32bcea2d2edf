package transport

import (
	"sync"
	"time"
)

// samples is how many of the last measurements the best is taken from.
const samples = 8

// clockJump is by how much a peer's clock may differ from what earlier
// measurements say, beyond what their travel times explain, before these are
// forgotten.
const clockJump = 50 * time.Millisecond

// sample is one measurement of a peer's clock.
type sample struct {
	rtt time.Duration
	// base is what the peer's wall clock showed when this node's monotonic clock
	// began: its own wall clock plays no part in it.
	base int64
}

// peerClock is what is known of one peer's clock: of the last measurements the
// one with the shortest travel time.
type peerClock struct {
	mu   sync.Mutex
	last [samples]sample
	n    int
	best sample
	at   time.Duration // monotonic, of the newest measurement
}

// add takes a pong: sent and now are this node's monotonic clock, wall the
// peer's in between.
func (c *peerClock) add(sent, now time.Duration, wall int64) {
	if sent < 0 || sent > now {
		return // no answer to anything that was asked
	}
	s := sample{rtt: now - sent, base: wall - int64(sent+(now-sent)/2)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n > 0 {
		differ := time.Duration(s.base - c.best.base).Abs()
		if differ > s.rtt/2+c.best.rtt/2+clockJump {
			c.n = 0
		}
	}
	c.last[c.n%samples] = s
	c.n++
	c.at = now
	c.best = s
	for _, x := range c.last[:min(c.n, samples)] {
		if x.rtt < c.best.rtt {
			c.best = x
		}
	}
}

// read returns the peer's clock at now, and the travel time there and back. It
// says false if nothing was measured for longer than max.
func (c *peerClock) read(now, max time.Duration) (wall int64, rtt time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == 0 || now-c.at > max {
		return 0, 0, false
	}
	return c.best.base + int64(now), c.best.rtt, true
}
