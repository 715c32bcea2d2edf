package actors

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
)

// spread sends one packet to each of n repositories, each in another partition.
func (d *desk) spread(n int) (repos []string) {
	d.t.Helper()
	seen := map[repository.PartitionID]bool{}
	for i := 0; len(repos) < n; i++ {
		repo := fmt.Sprint("r", i)
		if id := d.partition(repo).ID(); !seen[id] {
			seen[id] = true
			repos = append(repos, repo)
			d.send(repo, 1)
		}
	}
	return repos
}

// pulling begins a pull of the group "g".
func (d *desk) pulling(cfg PullConfig) <-chan []Delivery {
	cfg.Group = "g"
	pulled := make(chan []Delivery, 1)
	go func() {
		list, err := d.service.Pull(d.t.Context(), cfg)
		if err != nil {
			d.t.Errorf("pull: %v", err)
		}
		pulled <- list
	}()
	return pulled
}

func ended(pulled <-chan []Delivery) bool {
	pass(0)
	return len(pulled) > 0
}

// What waits is in the first answer, also when one partition learns of the group
// later than the others: neither its first lanes nor its grant may be missing.
func TestFirstPullWaitsForEveryPartition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		late := d.tap(d.spread(2)[0])
		release := late.holdCommands()
		pulled := d.pulling(PullConfig{Max: 10, WaitMs: 10_000})
		if pass(time.Second); ended(pulled) {
			t.Fatalf("answered with %v before a partition had its lanes indexed", <-pulled)
		}
		grant := late.holdGrants()
		release()
		if pass(time.Second); ended(pulled) {
			t.Fatalf("answered with %v before a grant was decided", <-pulled)
		}
		start := time.Now()
		grant()
		if got := <-pulled; len(got) != 2 {
			t.Errorf("pulled %d packets of 2: %v", len(got), got)
		}
		if waited := time.Since(start); waited > 100*time.Millisecond {
			t.Errorf("answered %v after all had their say", waited)
		}
	})
}

// A partition that says nothing holds what others have for the pull's wait only.
func TestPullDoesNotWaitForEverForAPartition(t *testing.T) {
	for name, hold := range map[string]func(p *tap) func(){"lanes": (*tap).holdCommands, "grant": (*tap).holdGrants} {
		for waitMs, want := range map[uint32]time.Duration{0: coldWait, 5000: 5 * time.Second} {
			t.Run(fmt.Sprint(name, waitMs), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					d := newDesk(t, nil)
					repos := d.spread(2)
					release := hold(d.tap(repos[0]))
					start := time.Now()
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					got, err := d.service.Pull(ctx, PullConfig{Group: "g", Max: 10, WaitMs: waitMs})
					if err != nil || len(got) != 1 || got[0].Repo != repos[1] || time.Since(start) != want {
						t.Errorf("pulled %v, %v after %v, want what the other partition has after %v", got, err, time.Since(start), want)
					}
					// Nor is it lost: what comes too late for one pull is for the next.
					release()
					if got := d.pull(PullConfig{Max: 10, WaitMs: 5000}); len(got) != 1 || got[0].Repo != repos[0] || got[0].Attempt != 1 {
						t.Errorf("then pulled %v", got)
					}
				})
			})
		}
	}
}

// A pull that has something lingers for no timer once all partitions are known.
func TestPullDoesNotLinger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		for range 3 {
			d.spread(2)
			start := time.Now()
			if got := d.pull(PullConfig{Max: 10, WaitMs: 10_000}); len(got) != 2 {
				t.Errorf("pulled %v", got)
			} else if _, err := d.service.Settle(t.Context(), "g", dones(got)); err != nil {
				t.Error(err)
			}
			if waited := time.Since(start); waited > 100*time.Millisecond {
				t.Errorf("a pull of what is there took %v", waited)
			}
		}
	})
}
