package drive

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waystation/waystation/loadtest/options"
	"github.com/waystation/waystation/loadtest/report"
)

// Node is a node of the run's own that faults are done to.
type Node interface {
	// KillAndRestart returns once the node serves again, and how long that took.
	KillAndRestart(ctx context.Context) (time.Duration, error)
	// Pause returns once the node goes on.
	Pause(ctx context.Context, d time.Duration) error
	// Died yields the reason when the node ends by itself.
	Died() <-chan error
	// Usage is what the node has taken so far.
	Usage() report.Usage
}

// faults happen as long as there is load.
type faults struct {
	node Node
	// kills and pauses that were done; back is the longest time until a killed node served again.
	kills, pauses atomic.Int64
	mu            sync.Mutex
	back          time.Duration
}

// run does one fault again and again until ctx ends. What has begun is finished:
// a killed node is always started again, under life.
func (f *faults) run(ctx, life context.Context, fault options.Fault) error {
	ticker := time.NewTicker(fault.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		if err := f.do(life, fault); err != nil {
			return fmt.Errorf("fault %s: %w", fault.Kind, err)
		}
	}
}

func (f *faults) do(life context.Context, fault options.Fault) error {
	if fault.Kind == options.Pause {
		f.pauses.Add(1)
		return f.node.Pause(life, fault.For)
	}
	took, err := f.node.KillAndRestart(life)
	if err != nil {
		return err
	}
	f.kills.Add(1)
	f.mu.Lock()
	f.back = max(f.back, took)
	f.mu.Unlock()
	return nil
}

// String tells what was done, for people; empty when nothing was.
func (f *faults) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	kills, pauses := f.kills.Load(), f.pauses.Load()
	switch {
	case kills > 0 && pauses > 0:
		return fmt.Sprintf("%d kills (serving again after %v at most), %d pauses", kills, f.back.Round(time.Millisecond), pauses)
	case kills > 0:
		return fmt.Sprintf("%d kills (serving again after %v at most)", kills, f.back.Round(time.Millisecond))
	case pauses > 0:
		return fmt.Sprintf("%d pauses", pauses)
	}
	return ""
}
