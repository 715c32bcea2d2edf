package transport

import (
	"context"
	"sync"
	"time"
)

// paceBurst is how far the bytes may be ahead of their time.
const paceBurst = 100 * time.Millisecond

// pace spreads bytes over time. One is shared by all snapshots that are sent.
type pace struct {
	rate int64 // bytes a second, 0 is no limit
	mu   sync.Mutex
	free time.Time // when what was taken so far is paid for
}

// take books n bytes and says how long to wait before they are sent.
func (p *pace) take(n int, now time.Time) time.Duration {
	if p.rate == 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if earliest := now.Add(-paceBurst); p.free.Before(earliest) {
		p.free = earliest
	}
	wait := max(0, p.free.Sub(now))
	p.free = p.free.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	return wait
}

// wait takes n bytes and waits, or returns ctx's error.
func (p *pace) wait(ctx context.Context, n int) error {
	d := p.take(n, time.Now())
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
