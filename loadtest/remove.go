package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/fleet"
)

const (
	// removeTimeout bounds how long a node's replicas may take to move.
	removeTimeout = 120 * time.Second
	removePoll    = 100 * time.Millisecond
)

// remover takes a node out of the cluster: it hands what it holds to the others,
// and is then told to be none of them any more.
func remover(targets func() string) func(ctx context.Context, n *fleet.Node) error {
	return func(ctx context.Context, n *fleet.Node) error {
		ctx, cancel := context.WithTimeoutCause(ctx, removeTimeout, fmt.Errorf("not done within %v", removeTimeout))
		defer cancel()
		c, err := client.Dial(ctx, targets())
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		if err := c.DrainNode(ctx, n.Name()); err != nil {
			return err
		}
		if err := emptied(ctx, c, n.Name()); err != nil {
			return err
		}
		return c.RemoveNode(ctx, n.Name())
	}
}

// emptied waits until a node holds nothing.
func emptied(ctx context.Context, c *client.Client, name string) error {
	tick := time.NewTicker(removePoll)
	defer tick.Stop()
	for {
		info, err := c.Cluster(ctx)
		if err == nil && holdsNothing(info, name) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until %s holds nothing: %w", name, errors.Join(context.Cause(ctx), err))
		}
	}
}

func holdsNothing(info *client.ClusterInfo, name string) bool {
	for _, n := range info.Nodes {
		if n.Name == name {
			return n.Replicas == 0
		}
	}
	return true
}
