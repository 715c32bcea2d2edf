package server_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/server"
)

// refused says whether a packet of a repository is refused for now, and what for.
func (n *node) refused(repo string) string {
	n.t.Helper()
	var f fault
	switch status := n.http("POST", "/v1/repos/"+repo+"/packets", "x", &f); status {
	case http.StatusOK, http.StatusServiceUnavailable:
		return ""
	case http.StatusTooManyRequests:
		return f.Error.Message
	default:
		n.t.Fatalf("publish: %d %+v", status, f)
	}
	return ""
}

// TestDiskOfAnyVoter: packets are refused by all nodes while the disk of one voter
// is under its reserve, and work goes on; at the hard reserve that node
// acknowledges and leads nothing; once it has room, all is as before.
func TestDiskOfAnyVoter(t *testing.T) {
	t.Parallel()
	const reserve = 4 << 20
	var free atomic.Int64
	free.Store(1 << 30)
	first := start(t, dataDir(t))
	start(t, dataDir(t), joining(first, "second"))
	dir := dataDir(t)
	third := startWith(t, dir, server.Hooks{DiskFree: free.Load}, joining(first, "third"), func(c *config.Config) {
		c.Limits.DiskReserve = reserve
	})
	await(t, "three copies", func() bool { return replicated(first.describe(), 3) })
	if _, err := os.Stat(filepath.Join(dir, "BALLAST")); err != nil {
		t.Errorf("there is no ballast: %v", err)
	}
	for i := range 8 {
		first.publish(fmt.Sprintf("acme/r%d", i), "x")
	}
	free.Store(reserve - 1)
	for i := range 8 {
		repo := fmt.Sprintf("acme/r%d", i)
		await(t, "a refusal by each node", func() bool {
			return strings.Contains(first.refused(repo), "disk") && strings.Contains(third.refused(repo), "disk")
		})
	}
	await(t, "the third node to be seen with its disk nearly full", func() bool { return first.state("third") == "disk nearly full" })
	free.Store(reserve/4 - 1)
	await(t, "the full node to lead nothing", func() bool {
		for _, n := range first.describe().GetNodes() {
			if n.GetName() == "third" {
				return n.GetLeaders() == 0 && n.GetState() == "disk full"
			}
		}
		return false
	})
	// What makes room goes on: the others are a majority.
	settled := 0
	await(t, "work to be done", func() bool {
		for _, d := range first.pull("ci", `{"max":8,"wait_ms":1000}`) {
			if d.settle(first, "ci", "done", nil) == http.StatusOK {
				settled++
			}
		}
		return settled >= 8
	})
	await(t, "the full node to lack what the others have acknowledged", func() bool {
		for _, p := range first.describe().GetPartitions() {
			if p.GetDurableCopies() == 2 {
				return true
			}
		}
		return false
	})
	free.Store(1 << 30)
	awaitLong(t, "three copies again", func() bool { return replicated(first.describe(), 3) })
	await(t, "no refusals", func() bool { return third.refused("acme/r0") == "" && first.state("third") == "up" })
	first.publish("acme/r0", "x")
}

// TestSnapshotSlowsPublishing: near the limit of what is kept for a snapshot some
// packets are refused, with a short delay, and others are taken.
func TestSnapshotSlowsPublishing(t *testing.T) {
	t.Parallel()
	n := startWith(t, dataDir(t), server.Hooks{Strain: func() float64 { return 1 }})
	taken, slowed := false, false
	await(t, "packets that are refused and packets that are not", func() bool {
		switch why := n.refused("acme/api"); {
		case why == "":
			taken = true
		case strings.Contains(why, "catches up"):
			slowed = true
		default:
			t.Fatalf("refused: %s", why)
		}
		return taken && slowed
	})
	if got := n.metric(`waystation_refusals_total{reason="snapshot"}`); got == "" || got == "0" {
		t.Errorf("%q refusals are counted", got)
	}
	if got := n.metric("waystation_cluster_log_hold_strain_ratio"); got != "0" {
		t.Errorf("strain %q", got)
	}
}
