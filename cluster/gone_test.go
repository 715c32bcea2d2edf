package cluster_test

import (
	"testing"
	"time"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/storage"
)

// With an election timeout that nobody would wait for, a leader whose process has
// ended is succeeded all the same.
func TestGone(t *testing.T) {
	c := newCell(t, func(cfg *cluster.Config) { cfg.ElectionTicks = int(time.Hour / cfg.Tick) }).trio()
	c.propose(100)
	c.agree()
	old, _ := c.leader()
	c.close(old)
	eventually(t, "another leader", func() bool {
		// Again and again: on a busy machine its last words come late.
		for _, n := range c.nodes {
			n.engine.Gone(func(g storage.GroupID, r storage.ReplicaID) bool { return g == 0 && nodeOf(r) == old })
		}
		now, _ := c.leading()
		return now != 0
	})
	c.propose(100)
}
