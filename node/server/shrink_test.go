package server_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// load publishes to a node, one packet after the other to a few repositories,
// until it is stopped; what is acknowledged is counted.
type load struct {
	mu   sync.Mutex
	acks map[string]int
	stop func() map[string]int
}

func (n *node) load() *load {
	l := &load{acks: map[string]int{}}
	ctx, cancel := context.WithCancel(n.t.Context())
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			repo := fmt.Sprintf("load/%d", i)
			for k := 0; ctx.Err() == nil; k++ {
				// A packet id makes a resend of what was not answered no second packet.
				p := &waystationv1.CodePacket{RepoId: repo, PacketId: fmt.Sprint(k), Content: []byte("x")}
				for ctx.Err() == nil {
					if _, err := n.rpc.Publish(ctx, &waystationv1.PublishRequest{Packet: p}); err == nil {
						l.mu.Lock()
						l.acks[repo]++
						l.mu.Unlock()
						break
					}
				}
			}
		})
	}
	l.stop = sync.OnceValue(func() map[string]int {
		cancel()
		wait.Wait()
		return l.acks
	})
	n.t.Cleanup(func() { l.stop() })
	return l
}

// workOff takes packets until each repository has given what was acknowledged, in
// order and without a gap.
func (n *node) workOff(acks map[string]int) {
	n.t.Helper()
	got := map[string]int{}
	await(n.t, "everything that was acknowledged", func() bool {
		for _, d := range n.pull("check", `{"max":64,"wait_ms":500}`) {
			if got[d.RepoID]++; d.Sequence != fmt.Sprint(got[d.RepoID]) {
				n.t.Fatalf("%s: packet %s came as the %d.", d.RepoID, d.Sequence, got[d.RepoID])
			}
			await(n.t, "a settlement, while leaderships move", func() bool {
				status := d.settle(n, "check", "done", nil)
				if status != 200 && status != 503 {
					n.t.Fatalf("settle: %d", status)
				}
				return status == 200
			})
		}
		for repo, k := range acks {
			if got[repo] < k {
				return false
			}
		}
		return true
	})
}

// retire drains nodes, waits until they hold no partition, and removes them.
func (n *node) retire(names ...string) {
	n.t.Helper()
	for _, name := range names {
		err := n.operate(func(ctx context.Context) error {
			_, err := n.rpc.DrainNode(ctx, &waystationv1.DrainNodeRequest{Node: name})
			return err
		})
		if err != nil {
			n.t.Fatal(err)
		}
	}
	await(n.t, "drained nodes to hold nothing", func() bool {
		for _, x := range n.describe().GetNodes() {
			if slices.Contains(names, x.GetName()) && (x.GetReplicas() > 0 || x.GetState() != "draining") {
				return false
			}
		}
		return true
	})
	for _, name := range names {
		n.remove(name)
	}
}

// TestThreeToOneAndBack: under load two of three nodes are drained and removed,
// which end, and two new ones join; nothing that was acknowledged is lost.
func TestThreeToOneAndBack(t *testing.T) {
	t.Parallel()
	first := start(t, dataDir(t))
	second, third := start(t, dataDir(t), joining(first, "second")), start(t, dataDir(t), joining(first, "third"))
	await(t, "three copies", func() bool { return replicated(first.describe(), 3) })
	l := first.load()
	first.retire("third", "second")
	says(t, third.end(), "removed", "--data-dir")
	says(t, second.end(), "removed", "--data-dir")
	await(t, "one copy", func() bool { return replicated(first.describe(), 1) })
	start(t, dataDir(t), joining(first, "fourth"))
	last := start(t, dataDir(t), joining(first, "second"))
	await(t, "three copies again, under load", func() bool { return replicated(first.describe(), 3) })
	last.workOff(l.stop())
}
