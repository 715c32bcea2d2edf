package main

import (
	"context"
	"errors"
	"fmt"
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
	if err := emptied(ctx, c, going, stay); err != nil {
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

// emptied waits until nodes hold nothing. Where an even number stays, one of them
// keeps its replicas until it is removed, so that the number of voters is odd.
func emptied(ctx context.Context, c *client.Client, going []*fleet.Node, stay int) error {
	tick := time.NewTicker(removePoll)
	defer tick.Stop()
	for {
		info, err := c.Cluster(ctx)
		if err == nil {
			holding, leading := held(info, going)
			if leading == 0 && (holding == 0 || holding == 1 && stay%2 == 0) {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until they hold nothing: %w", errors.Join(context.Cause(ctx), err))
		}
	}
}

// held counts the nodes that hold something, and those that lead something.
func held(info *client.ClusterInfo, nodes []*fleet.Node) (holding, leading int) {
	for _, x := range info.Nodes {
		for _, n := range nodes {
			if x.Name != n.Name() {
				continue
			}
			if x.Replicas > 0 {
				holding++
			}
			if x.Leaders > 0 {
				leading++
			}
		}
	}
	return holding, leading
}
