package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waystation/waystation/loadtest/options"
)

// Do carries a fault out, on a node that nothing else is being done to, and
// returns once it is over and the node serves again. began is called as it
// strikes, with what it is. A fault that there are too few nodes for is left out.
func (f *Fleet) Do(ctx context.Context, fault options.Fault, began func(what string)) error {
	if fault.Kind == options.PowerLoss {
		return f.powerLoss(ctx, began)
	}
	if fault.Kind == options.Partition && f.len() < 3 {
		return nil
	}
	n, others := f.take(ctx)
	if n == nil {
		return nil
	}
	defer f.give(n)
	switch fault.Kind {
	case options.Kill:
		began("kill " + n.Name())
		_, err := n.KillAndRestart(ctx, fault.For)
		return err
	case options.Pause:
		began(fmt.Sprintf("pause %s for %v", n.Name(), fault.For))
		return n.Pause(ctx, fault.For)
	case options.SlowDisk:
		began(fmt.Sprintf("slow disk of %s, %v a sync for %v", n.Name(), fault.Delay, fault.For))
		return n.Slow(ctx, fault.For, fault.Delay)
	case options.Partition:
		return f.cut(ctx, n, others, fault.For, began)
	}
	return fmt.Errorf("unknown fault %q", fault.Kind)
}

// take returns a node that nothing is being done to, and the numbers of the
// others; nil when ctx ended before there was one.
func (f *Fleet) take(ctx context.Context) (n *Node, others []int) {
	for {
		f.mu.Lock()
		var free []int
		for i, n := range f.nodes {
			if n != nil && !f.busy[n] {
				free = append(free, i)
			}
		}
		if len(free) > 0 {
			at := free[f.random.IntN(len(free))]
			n = f.nodes[at]
			f.busy[n] = true
			for i := range f.nodes {
				if i != at {
					others = append(others, i)
				}
			}
		}
		idle := f.idle
		f.mu.Unlock()
		if n != nil {
			return n, others
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// takeThis waits until nothing is being done to a node; false when ctx ended first.
func (f *Fleet) takeThis(ctx context.Context, n *Node) bool {
	for ctx.Err() == nil {
		f.mu.Lock()
		free := !f.busy[n]
		if free {
			f.busy[n] = true
		}
		idle := f.idle
		f.mu.Unlock()
		if free {
			return true
		}
		select {
		case <-idle:
		case <-ctx.Done():
		}
	}
	return false
}

func (f *Fleet) give(n *Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.busy, n)
	close(f.idle)
	f.idle = make(chan struct{})
}

// cut partitions a node off.
func (f *Fleet) cut(ctx context.Context, n *Node, others []int, d time.Duration, began func(string)) error {
	f.mu.Lock()
	way := Way(f.random.IntN(3))
	f.mu.Unlock()
	i := f.indexOf(n)
	began(fmt.Sprintf("cut %s off for %v: %v", n.Name(), d, way))
	if err := f.cfg.Network.Cut(i, others, way); err != nil {
		return fmt.Errorf("cut %s off: %w", n.Name(), err)
	}
	wait(ctx, d)
	if err := f.cfg.Network.Heal(i, others); err != nil {
		return fmt.Errorf("heal %s: %w", n.Name(), err)
	}
	return nil
}

func (f *Fleet) indexOf(n *Node) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Index(f.nodes, n)
}

// powerLoss kills all nodes, whatever else is done to them, and starts them again.
func (f *Fleet) powerLoss(ctx context.Context, began func(string)) error {
	nodes := f.list()
	for i, n := range nodes {
		if !f.takeThis(ctx, n) {
			f.giveAll(nodes[:i])
			return nil
		}
	}
	defer f.giveAll(nodes)
	began("power loss of " + names(nodes))
	return restartAll(ctx, nodes)
}

// restartAll ends all processes before it waits for any to start: one node alone
// has no majority to become ready with.
func restartAll(ctx context.Context, nodes []*Node) error {
	var hit []*Node
	for _, n := range nodes {
		n.mu.Lock()
		defer n.mu.Unlock()
		if !n.gone() {
			hit = append(hit, n)
		}
	}
	if err := each(hit, func(n *Node) error { n.strike(); return nil }); err != nil {
		return err
	}
	return each(hit, func(n *Node) error { return n.again(ctx) })
}

// each does something to all nodes at the same time, and returns the first one's error.
func each(nodes []*Node, do func(*Node) error) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = do(n) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func names(nodes []*Node) string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name())
	}
	return strings.Join(names, ", ")
}

// RollingRestart drains each node and starts it again, in turn, each once the
// others hold everything and it is its turn, which blocks until then. It ends early,
// between two nodes, when turn says false.
func (f *Fleet) RollingRestart(ctx context.Context, turn func(i, n int) bool, began func(what string)) error {
	nodes := f.list()
	for i, n := range nodes {
		if err := f.durable(ctx); err != nil {
			return err
		}
		if !turn(i, len(nodes)) || !f.takeThis(ctx, n) {
			return nil
		}
		began("restart " + n.Name())
		err := n.DrainAndRestart(ctx)
		f.give(n)
		if err != nil {
			return err
		}
	}
	return f.durable(ctx)
}

// Resize starts nodes and has them join, or drains and removes the last ones,
// until there are n.
func (f *Fleet) Resize(ctx context.Context, n int, began func(what string)) error {
	have := f.len()
	switch {
	case n > have:
		began(fmt.Sprintf("grow from %d to %d nodes", have, n))
		return f.grow(ctx, n)
	case n < have:
		began(fmt.Sprintf("shrink from %d to %d nodes", have, n))
		return f.shrink(ctx, n)
	}
	return nil
}

// shrink takes the last nodes out of the cluster, all at once: what the first gives
// away must not go to the second.
func (f *Fleet) shrink(ctx context.Context, n int) error {
	going := f.list()[n:]
	for i, x := range going {
		if !f.takeThis(ctx, x) {
			f.giveAll(going[:i])
			return nil
		}
		x.leave()
	}
	defer f.giveAll(going)
	if err := f.cfg.Removed(ctx, going, n); err != nil {
		return fmt.Errorf("remove %s: %w", names(going), err)
	}
	f.mu.Lock()
	f.nodes = f.nodes[:n]
	f.mu.Unlock()
	err := f.durable(ctx)
	if ended := each(going, (*Node).Drain); err == nil {
		err = ended
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range going {
		f.former = append(f.former, x.Usage())
	}
	return err
}

func (f *Fleet) giveAll(nodes []*Node) {
	for _, n := range nodes {
		f.give(n)
	}
}
