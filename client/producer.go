package client

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/waystation/waystation/client/internal/order"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// epochs holds the newest epoch of a stable producer name. A random name needs
// none from the cluster: nobody else has it, so each lane counts its own on.
type epochs struct {
	newest atomic.Uint64

	mu      sync.Mutex
	asking  bool
	askers  sync.WaitGroup
	stopped bool
}

// openProducer asks the cluster for the next epoch of the client's name.
func (c *Client) openProducer(ctx context.Context) error {
	return c.call(ctx, func(ctx context.Context, s waystationv1.WaystationClient) error {
		resp, err := s.OpenProducer(ctx, &waystationv1.OpenProducerRequest{Producer: c.producer})
		if err != nil {
			return err
		}
		c.epochs.newest.Store(resp.GetEpoch())
		return nil
	})
}

func fencedError(producer string) error {
	return &Error{
		Code: CodeFenced, Field: "position.producer",
		Message: fmt.Sprintf("another process opened the producer name %q: only one may send under it", producer),
	}
}

// nextEpoch gives a lane an epoch above its own, or sees to it that it gets one,
// and says whether it has it.
func (p *publisher) nextEpoch(l *lane, st order.Step) bool {
	if p.c.cfg.producer == "" {
		if st.Failures > 3 {
			// Epochs that change nothing: a server that never accepts the first
			// number must not be asked as fast as it answers.
			l.begin = true
			p.delay(l, p.c.cfg.retry.wait(st.Failures, millis(st.DelayMs)))
			return false
		}
		l.SetEpoch(l.Epoch() + 1)
		return true
	}
	if newest := p.c.epochs.newest.Load(); newest > l.Epoch() {
		l.SetEpoch(newest)
		return true
	}
	// What fences may be an epoch that this very client is asking for.
	if st.Fenced && !p.c.epochs.underway() {
		l.Stop()
		return false
	}
	p.waiting = append(p.waiting, l)
	p.c.askEpoch()
	return false
}

// askEpoch has the next epoch of a stable name fetched, once at a time.
func (c *Client) askEpoch() {
	e := &c.epochs
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asking || e.stopped {
		return
	}
	e.asking = true
	e.askers.Go(func() {
		for try := 1; c.openProducer(c.ctx) != nil; try++ {
			if pause(c.ctx, c.cfg.retry.wait(try, 0)) != nil {
				return
			}
		}
		e.mu.Lock()
		e.asking = false
		e.mu.Unlock()
		for _, p := range c.shards {
			p.epochCame(e.newest.Load())
		}
	})
}

// underway says that an epoch was asked for and is not known yet.
func (e *epochs) underway() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asking
}

// wait ends the asking; the client's context has ended before.
func (e *epochs) wait() {
	e.mu.Lock()
	e.stopped = true
	e.mu.Unlock()
	e.askers.Wait()
}

// epochCame lets the lanes go on that wait for an epoch.
func (p *publisher) epochCame(epoch uint64) {
	p.mu.Lock()
	waiting := p.waiting
	p.waiting = nil
	var done []completion
	for _, l := range waiting {
		l.SetEpoch(epoch)
		done = p.advance(l, done)
	}
	p.nudgeAll()
	p.mu.Unlock()
	p.complete(done)
}
