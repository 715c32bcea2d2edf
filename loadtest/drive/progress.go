package drive

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/waystation/waystation/loadtest/verify"
)

// progress writes a line a second until ctx ends.
func (r *run) progress(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	before, at := r.verifier.Live(), r.clock.now()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			if r.cfg.Live {
				fmt.Fprint(r.cfg.Progress, "\r\033[K")
			}
			return nil
		}
		live, now := r.verifier.Live(), r.clock.now()
		line := r.line(before, live, now, now-at)
		before, at = live, now
		if r.cfg.Live {
			fmt.Fprintf(r.cfg.Progress, "\r%s\033[K", line)
		} else {
			fmt.Fprintln(r.cfg.Progress, line)
		}
	}
}

func (r *run) line(before, live verify.Live, now, past time.Duration) string {
	perSecond := func(n int64) float64 { return float64(n) / past.Seconds() }
	phase := *r.phase.Load()
	var b strings.Builder
	fmt.Fprintf(&b, "%4.0fs %s: %.0f acked/s", now.Seconds(), phase, perSecond(live.Acked-before.Acked))
	if r.o.Work {
		fmt.Fprintf(&b, ", %.0f settled/s, %d open", perSecond(live.Settled-before.Settled), live.Open)
	} else if found := r.readback.found.Load(); found > 0 {
		fmt.Fprintf(&b, ", %d packets of %d repositories read", found, r.readback.done.Load())
	}
	fmt.Fprintf(&b, ", %d in all", live.Acked)
	if r.faults != nil {
		if done := r.faults.String(); done != "" {
			fmt.Fprintf(&b, ", %s", done)
		}
	}
	return b.String()
}
