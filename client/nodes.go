package client

import (
	"context"
	"fmt"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// DrainNode has a node, given by name or id, hand its replicas and leaderships to
// the others. It returns once that is decided; Cluster shows how far it is.
func (c *Client) DrainNode(ctx context.Context, node string) error {
	err := c.call(ctx, func(ctx context.Context, s waystationv1.WaystationClient) error {
		_, err := s.DrainNode(ctx, &waystationv1.DrainNodeRequest{Node: node})
		return err
	})
	if err != nil {
		return fmt.Errorf("drain node %s: %w", node, err)
	}
	return nil
}

// RemoveNode ends the membership of a node, given by name or id, for good. Drain
// it first, if it runs.
func (c *Client) RemoveNode(ctx context.Context, node string) error {
	err := c.call(ctx, func(ctx context.Context, s waystationv1.WaystationClient) error {
		_, err := s.RemoveNode(ctx, &waystationv1.RemoveNodeRequest{Node: node})
		return err
	})
	if err != nil {
		return fmt.Errorf("remove node %s: %w", node, err)
	}
	return nil
}
