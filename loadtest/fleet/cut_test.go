package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// cutOff cuts the first of three nodes off the others in each way, and looks who
// reaches whom; cut, if not nil, looks closer at each.
func cutOff(ctx context.Context, dir string, network Network, cut func(nodes []*Node, way Way) error) error {
	f, err := Start(ctx, Config{Dir: dir, Cluster: "good", Nodes: 3, Replication: 3, Network: network})
	if err != nil {
		return err
	}
	defer f.Stop()
	nodes := f.list()
	reaches := func(from, to int, want bool) (bool, error) {
		within := time.Minute // who can be reached is, at last
		if !want {
			within = 700 * time.Millisecond
		}
		got, err := get(nodes[from].spec.Addresses.HTTP, "/reach?within="+within.String()+"&to="+nodes[to].spec.peer())
		return got == "reached", err // this process must always reach the nodes
	}
	look := func(when string, want bool) error {
		ways := []way{{0, 1}, {1, 0}, {0, 2}, {2, 0}, {1, 2}, {2, 1}}
		errs := make([]error, len(ways))
		var all sync.WaitGroup
		for i, w := range ways {
			all.Go(func() {
				want := want || w.from != 0 && w.to != 0
				if got, err := reaches(w.from, w.to, want); err != nil || got != want {
					errs[i] = fmt.Errorf("%s: node-%d to node-%d: reached %v, want %v (%w)", when, w.from+1, w.to+1, got, want, err)
				}
			})
		}
		all.Wait()
		return errors.Join(errs...)
	}
	if err := look("before", true); err != nil {
		return err
	}
	// A conversation needs both directions: that each is cut alone is for cut to see.
	for _, way := range []Way{BothWays, Inbound, Outbound} {
		if err := network.Cut(0, []int{1, 2}, way); err != nil {
			return err
		}
		if err := look("cut, "+way.String(), false); err != nil {
			return err
		}
		if cut != nil {
			if err := cut(nodes, way); err != nil {
				return err
			}
		}
		if err := network.Heal(0, []int{1, 2}); err != nil {
			return err
		}
		if err := look("healed, "+way.String(), true); err != nil {
			return err
		}
	}
	// A restart stays where it is.
	if _, err := nodes[0].KillAndRestart(ctx, 0); err != nil {
		return err
	}
	return look("restarted", true)
}
