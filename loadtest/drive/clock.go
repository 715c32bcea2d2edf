package drive

import (
	"context"
	"time"

	"github.com/waystation/waystation/loadtest/verify"
)

// clock tells the time since the run began; it never falls.
type clock struct{ begin time.Time }

func (c clock) now() time.Duration { return time.Since(c.begin) }

func (c clock) at(t time.Time) verify.Tick { return verify.TickOf(max(t.Sub(c.begin), 0)) }

// sleep waits for d or until ctx ends; it says whether the time has passed.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
