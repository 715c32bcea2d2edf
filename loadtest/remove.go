package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/fleet"
)

const (
	// removeTimeout bounds how long replicas may take to move.
	removeTimeout = 120 * time.Second
	removePoll    = 100 * time.Millisecond
)

// remove takes nodes out of the cluster, as an operator would: they hand what they
// hold to those that stay, and are then told to be none of the cluster any more.
func remove(ctx context.Context, targets string, going []*fleet.Node, stay int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, removeTimeout, fmt.Errorf("not done within %v", removeTimeout))
	defer cancel()
	// Those that go are not to be asked: they may end as soon as they are removed.
	c, err := client.Dial(ctx, strings.Join(strings.Split(targets, ",")[:stay], ","))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for _, n := range going {
		if err := c.DrainNode(ctx, n.Name()); err != nil {
			return err
		}
	}
	if err := emptied(ctx, c, going); err != nil {
		return err
	}
	for _, n := range going {
		// A second try, after an answer that was lost, finds no such node.
		if err := c.RemoveNode(ctx, n.Name()); err != nil && client.ErrorCode(err) != client.CodeNotFound {
			return err
		}
	}
	return nil
}

// emptied waits until nodes hold nothing.
func emptied(ctx context.Context, c *client.Client, going []*fleet.Node) error {
	tick := time.NewTicker(removePoll)
	defer tick.Stop()
	for {
		info, err := c.Cluster(ctx)
		if err == nil && holding(info, going) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until they hold nothing: %w", errors.Join(context.Cause(ctx), err))
		}
	}
}

// holding counts what nodes hold.
func holding(info *client.ClusterInfo, nodes []*fleet.Node) (n int) {
	for _, x := range info.Nodes {
		if slices.ContainsFunc(nodes, func(n *fleet.Node) bool { return n.Name() == x.Name }) {
			n += int(x.Replicas + x.Leaders)
		}
	}
	return n
}
