package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/loadtest/options"
	"github.com/waystation/waystation/loadtest/report"
)

// startFleet starts fake nodes; change may be nil.
func startFleet(t *testing.T, nodes int, change func(*Config)) *Fleet {
	t.Helper()
	cfg := Config{Dir: t.TempDir(), Cluster: "good", Nodes: nodes, Replication: 3, Network: Loopback(), Seed: 1}
	if change != nil {
		change(&cfg)
	}
	f, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Stop)
	return f
}

func (f *Fleet) pids() (pids []int) {
	for _, n := range f.list() {
		n.mu.Lock()
		pids = append(pids, n.process.pid())
		n.mu.Unlock()
	}
	return pids
}

func TestFleetJoinsTheFirst(t *testing.T) {
	f := startFleet(t, 3, nil)
	if got := strings.Split(f.Targets(), ","); len(got) != 3 || slices.Contains(got, "127.0.0.1:0") {
		t.Fatalf("targets %v", got)
	}
	want := "none"
	for _, n := range f.list() {
		if got, err := get(n.spec.Addresses.HTTP, "/join"); got != want || err != nil {
			t.Errorf("%s joins %q (%v), want %q", n.Name(), got, err, want)
		}
		want = f.first().spec.Addresses.Gossip
	}
}

func TestFaultsKeepAddresses(t *testing.T) {
	f := startFleet(t, 3, nil)
	targets, pids := f.Targets(), f.pids()
	for _, tc := range []struct {
		fault   options.Fault
		changed int // processes
		say     string
	}{
		{options.Fault{Kind: options.Kill}, 1, "kill node-"},
		{options.Fault{Kind: options.PowerLoss}, 3, "power loss of node-1, node-2, node-3"},
		{options.Fault{Kind: options.SlowDisk, For: time.Millisecond, Delay: time.Millisecond}, 0, "slow disk of node-"},
	} {
		var said string
		if err := f.Do(t.Context(), tc.fault, func(what string) { said = what }); err != nil {
			t.Fatal(err)
		}
		now := f.pids()
		changed := 0
		for i := range now {
			if now[i] != pids[i] {
				changed++
			}
		}
		pids = now
		if f.Targets() != targets || changed != tc.changed || !strings.Contains(said, tc.say) {
			t.Errorf("%s: %q, at %s (was %s), %d new processes", tc.fault.Kind, said, f.Targets(), targets, changed)
		}
	}
	select {
	case err := <-f.Died():
		t.Errorf("a fault was taken for an accident: %v", err)
	default:
	}
}

func TestSlowDiskIsTold(t *testing.T) {
	f := startFleet(t, 1, nil)
	fault := options.Fault{Kind: options.SlowDisk, For: time.Millisecond, Delay: 7 * time.Millisecond}
	if err := f.Do(t.Context(), fault, func(string) {}); err != nil {
		t.Fatal(err)
	}
	var told string
	for !strings.Contains(told, "slow 0s\n") {
		more, err := get(f.first().spec.Addresses.HTTP, "/orders")
		if err != nil {
			t.Fatal(err)
		}
		told += more + "\n"
	}
	if !strings.HasPrefix(told, "slow 7ms\n") {
		t.Errorf("told %q", told)
	}
}

// Two faults at the same time hit two nodes, and one waits if there is no other.
func TestFaultsTakeTurns(t *testing.T) {
	f := startFleet(t, 2, nil)
	a, others := f.take(t.Context())
	b, _ := f.take(t.Context())
	if a == nil || b == nil || a == b || len(others) != 1 || f.list()[others[0]] != b {
		t.Fatalf("%v and %v, others %v", a, b, others)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, _ := f.take(ctx); c != nil {
		t.Fatalf("%s is hit twice", c.Name())
	}
	if err := f.Do(ctx, options.Fault{Kind: options.PowerLoss}, func(string) { t.Error("struck") }); err != nil {
		t.Fatal(err)
	}
	f.give(b)
	if c, _ := f.take(t.Context()); c != b {
		t.Fatalf("got %v", c)
	}
}

func TestRollingRestartDrainsEach(t *testing.T) {
	f := startFleet(t, 3, nil)
	pids := f.pids()
	var said []string
	turn := func(i, n int) bool {
		said = append(said, fmt.Sprintf("turn %d of %d", i, n))
		return true
	}
	if err := f.RollingRestart(t.Context(), turn, func(what string) { said = append(said, what) }); err != nil {
		t.Fatal(err)
	}
	want := []string{"turn 0 of 3", "restart node-1", "turn 1 of 3", "restart node-2", "turn 2 of 3", "restart node-3"}
	if !slices.Equal(said, want) {
		t.Errorf("said %v", said)
	}
	for i, pid := range f.pids() {
		if pid == pids[i] || !drained(f.list()[i]) {
			t.Errorf("node %d was not drained: process %d, was %d", i+1, pid, pids[i])
		}
	}
	// It ends between two nodes.
	no := func(int, int) bool { return false }
	if err := f.RollingRestart(t.Context(), no, func(what string) { t.Error(what) }); err != nil {
		t.Fatal(err)
	}
}

func drained(n *Node) bool {
	_, err := os.Stat(filepath.Join(n.spec.DataDir, "drained"))
	return err == nil || !CanPause // there is no SIGTERM elsewhere
}

func TestResize(t *testing.T) {
	var removed []*Node
	f := startFleet(t, 1, func(c *Config) {
		c.Removed = func(_ context.Context, going []*Node, stay int) error {
			if removed = append(removed, going...); stay != 1 {
				t.Errorf("%d stay", stay)
			}
			return nil
		}
	})
	none := func(string) {}
	if err := f.Resize(t.Context(), 3, none); err != nil || f.len() != 3 {
		t.Fatalf("%d nodes, %v", f.len(), err)
	}
	if err := f.Resize(t.Context(), 3, func(what string) { t.Error(what) }); err != nil {
		t.Fatal(err)
	}
	nodes := f.list()
	if err := f.Resize(t.Context(), 1, none); err != nil || f.len() != 1 {
		t.Fatalf("%d nodes, %v", f.len(), err)
	}
	if !slices.Equal(removed, nodes[1:]) || !drained(nodes[1]) || !drained(nodes[2]) {
		t.Errorf("removed %v", removed)
	}
	if u := f.Usage(); CanPause && u.RSSBytes < 3<<20 {
		t.Errorf("usage %+v: what was removed is left out", u)
	}
}

func TestFleetTellsWhyNot(t *testing.T) {
	_, err := Start(t.Context(), Config{
		Dir: t.TempDir(), Cluster: "broken-second", Nodes: 3, Replication: 3, Network: Loopback(),
	})
	if !errors.Is(err, errEnded) || !strings.Contains(err.Error(), "the reason why") || !strings.Contains(err.Error(), "node-2") {
		t.Fatalf("got %v", err)
	}
}

func TestAnyNodesEndIsTold(t *testing.T) {
	f := startFleet(t, 3, nil)
	_, _ = get(f.list()[1].spec.Addresses.HTTP, "/quit") // its answer is cut off
	select {
	case err := <-f.Died():
		if !strings.Contains(err.Error(), "node-2") {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nobody noticed")
	}
}

func TestLacks(t *testing.T) {
	d := func(leader string, copies int) *description {
		x := &description{}
		x.Partitions = append(x.Partitions, struct {
			ID            int    `json:"id"`
			Leader        string `json:"leader"`
			DurableCopies int    `json:"durable_copies"`
		}{0, leader, copies})
		return x
	}
	for _, tc := range []struct {
		d    *description
		want string
	}{
		{&description{}, "no partition"},
		{d("", 3), "no leader"},
		{d("a", 2), "2 durable copies of 3"},
		{d("a", 3), ""},
	} {
		err := tc.d.lacks(3, map[int]bool{})
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want %q", err, tc.want)
		}
	}
	// What has been whole once may be a moment behind, not without a leader.
	whole := map[int]bool{}
	if err := errors.Join(d("a", 3).lacks(3, whole), d("a", 2).lacks(3, whole)); err != nil {
		t.Error(err)
	}
	if err := d("", 3).lacks(3, whole); err == nil {
		t.Error("without a leader")
	}
	for _, tc := range [][3]int{{1, 3, 1}, {2, 3, 1}, {3, 3, 3}, {4, 5, 3}, {9, 3, 3}, {5, 5, 5}, {5, 1, 1}} {
		if got := copiesOf(tc[0], tc[1]); got != tc[2] {
			t.Errorf("%d nodes, replication %d: %d copies, want %d", tc[0], tc[1], got, tc[2])
		}
	}
}

func TestSumUsage(t *testing.T) {
	a := report.Usage{RSSBytes: 1, CPU: 2, DiskBytes: 3}
	if got, want := sumUsage([]report.Usage{a, a}), (report.Usage{RSSBytes: 2, CPU: 4, DiskBytes: 6}); got != want {
		t.Errorf("got %+v", got)
	}
	unknown := report.Usage{RSSBytes: -1, CPU: -1, DiskBytes: 3}
	if got, want := sumUsage([]report.Usage{a, unknown, a}), (report.Usage{RSSBytes: -1, CPU: -1, DiskBytes: 9}); got != want {
		t.Errorf("got %+v", got)
	}
}
