package server_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/waystation/waystation/node/backup"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/storage"
)

func number(t testing.TB, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRecoverAfterTheMajority: two of three nodes are gone for good, by a kill
// under load. The third goes on with all that it has, numbers and tokens grow, new
// nodes take the places of the old ones, and these are refused if they come back.
func TestRecoverAfterTheMajority(t *testing.T) {
	m := newMachine(t)
	for range 3 {
		m.run()
	}
	all := m.together()
	l := all[0].load()
	await(t, "some load", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.acks["load/0"] > 20 })
	held := l.stop()
	await(t, "copies of it on all nodes", func() bool { return replicated(all[0].describe(), 3) })
	var lease delivery
	await(t, "a lease", func() bool {
		for _, d := range all[1].pull("leased", `{"max":1,"wait_ms":1000,"lease_ms":1000}`) {
			lease = d
		}
		return lease.LeaseToken != ""
	})
	dir, id, logger := all[2].dir, clusterID(all[0]), slog.New(slog.DiscardHandler)
	if _, err := backup.Recover([]string{dir}, nil, logger); !errors.Is(err, storage.ErrLocked) {
		t.Fatalf("while the node runs: %v", err)
	}
	more := all[1].load()
	await(t, "more load", func() bool { more.mu.Lock(); defer more.mu.Unlock(); return more.acks["load/1"] > 5 })
	m.kill()
	more.stop()
	plan, err := backup.Survey([]string{dir}, nil, logger)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.GivenUp) != 2 || len(plan.Groups) != 5 || plan.Done || plan.ClusterID != id {
		t.Errorf("the plan: %+v", plan)
	}
	for _, g := range plan.Groups {
		if len(g.Voters) != 3 || len(g.Absent) != 2 || g.LastHeard == nil || g.Last < g.Committed || g.Committed < g.Applied {
			t.Errorf("the plan for a group: %+v", g)
		}
	}
	if plan, err = backup.Recover([]string{dir}, nil, logger); err != nil || !plan.Done {
		t.Fatalf("recover: %+v, %v", plan, err)
	}
	if _, err := os.Stat(filepath.Join(plan.Before, "log")); err != nil {
		t.Errorf("the old databases: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, config.EndpointsFile)); err != nil { // of the life that was killed
		t.Fatal(err)
	}
	first := start(t, dir)
	if got := clusterID(first); got != id {
		t.Errorf("cluster %s went on as %s", id, got)
	}
	if d := first.describe(); len(d.GetNodes()) != 1 || !replicated(d, 1) {
		t.Errorf("after the recovery: %v", d)
	}
	first.goesOn(lease, held)
	seed := first.Addresses.Gossip
	for _, old := range []string{m.dir, m.dir + "-2"} {
		says(t, refusal(t, "--data-dir", old, "--join", seed, "--name", filepath.Base(old)), "removed", "--data-dir")
	}
	start(t, dataDir(t), joining(first, "new-2"))
	last := start(t, dataDir(t), joining(first, "new-3"))
	awaitLong(t, "three copies", func() bool { return replicated(last.describe(), 3) })
	last.publish("load/2", "x")
	last.agree(t, 3)
}

// goesOn holds a recovered node against what was there before: a lease of the group
// leased, and packets that were acknowledged.
func (n *node) goesOn(lease delivery, held map[string]int) {
	n.t.Helper()
	n.workOff(held)
	// Of a repository that nobody knows any more the lost ones may have given numbers.
	for _, repo := range append(slices.Collect(maps.Keys(held)), "acme/unknown") {
		if r := n.publish(repo, "x"); number(n.t, r.Sequence) <= backup.Jump {
			n.t.Errorf("%s: a new packet has number %s", repo, r.Sequence)
		}
	}
	var next delivery
	await(n.t, "the lane of the old lease", func() bool {
		for _, d := range n.pull("leased", `{"max":8,"wait_ms":1000,"lease_ms":1000}`) {
			if d.RepoID == lease.RepoID {
				next = d
			}
		}
		return next.RepoID != ""
	})
	if next.LeaseToken != lease.LeaseToken && number(n.t, next.LeaseToken) <= number(n.t, lease.LeaseToken)+backup.Jump/2 {
		n.t.Errorf("token %s after %s", next.LeaseToken, lease.LeaseToken)
	}
}

// TestRecoverTakesTheNewestCopies: of several folders each partition's copy with
// most in it is taken, and the folder that it came from is left as it was.
func TestRecoverTakesTheNewestCopies(t *testing.T) {
	t.Parallel()
	dirs := [3]string{dataDir(t), dataDir(t), dataDir(t)}
	nodes := trio(t, dirs)
	for i := range 8 {
		nodes[0].publish(fmt.Sprintf("acme/r%d", i), "early")
	}
	await(t, "copies", func() bool { return replicated(nodes[0].describe(), 3) })
	nodes[2].stop()
	for i := range 8 {
		if r := nodes[0].publish(fmt.Sprintf("acme/r%d", i), "late"); r.Sequence != "2" {
			t.Errorf("number %s", r.Sequence)
		}
	}
	await(t, "copies on the second", func() bool {
		for _, p := range nodes[1].describe().GetPartitions() {
			if p.GetDurableCopies() < 2 {
				return false
			}
		}
		return true
	})
	nodes[1].cancel()
	nodes[0].stop()
	nodes[1].stop()
	logger := slog.New(slog.DiscardHandler)
	other := dataDir(t)
	alone := start(t, other, func(c *config.Config) { c.Name = "other" })
	alone.stop()
	if _, err := backup.Recover([]string{dirs[2], other}, nil, logger); !errors.Is(err, backup.ErrOther) {
		t.Errorf("folders of two clusters: %v", err)
	}
	plan, err := backup.Recover([]string{dirs[2], dirs[1]}, nil, logger)
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for _, g := range plan.Groups {
		if g.From == dirs[1] {
			taken++
		}
	}
	if taken == 0 || plan.Node != "third" {
		t.Errorf("the plan: %+v", plan)
	}
	third := start(t, dirs[2], func(c *config.Config) { c.Name = "third" })
	for i := range 8 {
		for k := range 2 {
			if status := third.http("GET", fmt.Sprintf("/v1/repos/acme/r%d/packets/%d", i, k+1), "", nil); status != http.StatusOK {
				t.Errorf("packet %d of repository %d: %d", k+1, i, status)
			}
		}
	}
	says(t, refusal(t, "--data-dir", dirs[1], "--join", third.Addresses.Gossip, "--name", "second"), "removed", "--data-dir")
}
