package drive

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/waystation/waystation/loadtest/verify"
)

// screen is where progress is shown: a line that is rewritten in place where that
// is possible, and remarks above it, which stay.
type screen struct {
	w    io.Writer
	live bool

	mu   sync.Mutex
	line string
}

// show replaces the line.
func (s *screen) show(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line = line
	if s.live {
		fmt.Fprintf(s.w, "\r%s\033[K", line)
	} else {
		fmt.Fprintln(s.w, line)
	}
}

// remark writes a line that stays.
func (s *screen) remark(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live {
		fmt.Fprintf(s.w, "\r%s\033[K\n%s", text, s.line)
	} else {
		fmt.Fprintln(s.w, text)
	}
}

// clear takes the line away.
func (s *screen) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.line = ""; s.live {
		fmt.Fprint(s.w, "\r\033[K")
	}
}

// happened remarks something about the nodes.
func (r *run) happened(at time.Duration, what string) {
	r.screen.remark(fmt.Sprintf("%6.2fs ! %s", at.Seconds(), what))
}

// progress shows a line a second until ctx ends.
func (r *run) progress(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	before, at := r.verifier.Live(), r.clock.now()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			r.screen.clear()
			return nil
		}
		live, now := r.verifier.Live(), r.clock.now()
		r.screen.show(r.line(before, live, now, now-at))
		before, at = live, now
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
	if done := r.outages.count(); done != "" {
		fmt.Fprintf(&b, ", faults: %s", done)
	}
	return b.String()
}
