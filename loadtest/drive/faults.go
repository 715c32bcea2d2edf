package drive

import (
	"context"
	"fmt"
	"time"

	"github.com/waystation/waystation/loadtest/options"
	"github.com/waystation/waystation/loadtest/report"
)

// Fleet are the nodes of the run's own, that faults are done to. began is called
// as something strikes, with what it is, for people. What has begun is finished,
// as long as ctx (or life) goes on.
type Fleet interface {
	// Do carries a fault out and returns once it is over.
	Do(ctx context.Context, f options.Fault, began func(what string)) error
	// RollingRestart drains and starts each of its n nodes, in turn: node i once turn(i, n)
	// has returned; false ends it there.
	RollingRestart(ctx context.Context, turn func(i, n int) bool, began func(what string)) error
	// Resize changes the number of nodes.
	Resize(ctx context.Context, n int, began func(what string)) error
	// Died yields the reason when a node ends by itself.
	Died() <-chan error
	// Usage is what the nodes have taken so far.
	Usage() report.Usage
}

// faults happen as long as there is load.
type faults struct {
	fleet   Fleet
	outages *outages
	now     func() time.Duration
	// warmup and duration of the load; duration includes the warm-up.
	warmup, duration time.Duration
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
		var over func()
		err := f.fleet.Do(life, fault, func(what string) { over = f.outages.strike(string(fault.Kind), what, f.now()) })
		if over != nil {
			over()
		}
		if err != nil {
			return fmt.Errorf("fault %s: %w", fault.Kind, err)
		}
	}
}

// roll restarts all nodes in turn, once, spread over the time that figures are taken of.
func (f *faults) roll(ctx context.Context) error {
	turn := func(i, n int) bool {
		return sleep(ctx, f.warmup+(f.duration-f.warmup)*time.Duration(i)/time.Duration(n)-f.now())
	}
	over := func() {}
	err := f.fleet.RollingRestart(ctx, turn, func(what string) {
		over()
		over = f.outages.strike("restart", what, f.now())
	})
	over()
	if err != nil {
		return fmt.Errorf("rolling restart: %w", err)
	}
	return nil
}

// resize goes through the numbers of nodes, each for an equal part of the load.
func (f *faults) resize(ctx context.Context, stages []int) error {
	for i, n := range stages {
		begin := f.duration * time.Duration(i) / time.Duration(len(stages))
		if !sleep(ctx, begin-f.now()) {
			return nil
		}
		var over func()
		err := f.fleet.Resize(ctx, n, func(what string) { over = f.outages.strike("resize", what, f.now()) })
		if over != nil {
			over()
		}
		if err != nil {
			return fmt.Errorf("grow: %w", err)
		}
	}
	return nil
}
