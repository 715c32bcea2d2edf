package client

import (
	"context"
	"fmt"
)

// WithWarmUp has f called before the worker asks for its first packet, with Work's
// own context: what takes long to load times no packet out. Work waits for it, and
// returns its error, if it has one. It is called once a Work call, not for each
// stream.
func WithWarmUp(f func(ctx context.Context) error) WorkOption {
	return func(c *workConfig) { c.warmUp = f }
}

// WithSlowStart has the worker begin with a credit of 1 packet and double it each
// time as many were done as the credit is, until the credit is the full one: a
// service that is cold, or broken, gets a few packets, not all at once. What fails
// does not count. By default a worker begins with its full credit.
func WithSlowStart() WorkOption { return func(c *workConfig) { c.slowStart = true } }

func (w *worker) warmUp(ctx context.Context) error {
	if w.cfg.warmUp == nil {
		return nil
	}
	if err := w.cfg.warmUp(ctx); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	return nil
}

// ramp is how far a slow start has come. The zero value sets no limit.
type ramp struct {
	credit int // 0: no limit, or none any more
	done   int // with this credit
}

// limit is the credit, at most full.
func (r *ramp) limit(full int) int {
	if r.credit == 0 {
		return full
	}
	return min(r.credit, full)
}

// success takes note of a packet that is done, and says whether the credit grew.
func (r *ramp) success(full int) bool {
	if r.credit == 0 {
		return false
	}
	if r.done++; r.done < r.credit {
		return false
	}
	r.credit, r.done = 2*r.credit, 0
	if r.credit >= full {
		r.credit = 0
	}
	return true
}
