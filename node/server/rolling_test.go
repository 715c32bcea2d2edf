package server_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/server"
)

// TestRollingRestart: while three nodes are stopped and started in turn, a client
// that knows them all sees no error, each hands over what it leads before it
// ends, and takes part again afterwards.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	gossip := freePort(t)
	var dirs, ports []string
	for range 3 {
		dirs, ports = append(dirs, dataDir(t)), append(ports, freePort(t))
	}
	up := func(i int) *node {
		return launch(t, dirs[i], server.Hooks{}, func(c *config.Config) {
			c.Name, c.Listen, c.DrainTimeout = fmt.Sprintf("n%d", i), ports[i], time.Minute
			if c.Join = gossip; i == 0 {
				c.Gossip, c.Join = gossip, "none"
			}
		}).ready()
	}
	nodes := []*node{up(0), up(1), up(2)}
	await(t, "three copies", func() bool { return replicated(nodes[0].describe(), 3) })
	c, err := client.Dial(t.Context(), strings.Join(ports, ","))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, stop := context.WithCancel(t.Context())
	var acked, failed atomic.Int64
	over := make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			<-tick.C
			p := &client.Packet{RepoID: fmt.Sprintf("rolling/%d", i%32), Content: []byte("x")}
			_ = c.PublishAsync(ctx, p, func(_ client.Receipt, err error) {
				if acked.Add(1); err != nil && failed.Add(1) == 1 {
					t.Errorf("publish: %v", err)
				}
			})
		}
	}()
	for i, n := range nodes {
		n.stop()
		if said := n.said.String(); strings.Contains(said, "handed over") {
			t.Errorf("node %d: %s", i, said)
		}
		nodes[i] = up(i)
		await(t, "three copies again", func() bool { return replicated(nodes[i].describe(), 3) })
	}
	stop()
	<-over
	if err := c.Flush(t.Context()); err != nil || acked.Load() == 0 {
		t.Errorf("%d packets: %v", acked.Load(), err)
	}
}
