package server

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/api"
	"github.com/waystation/waystation/storage"
)

// clusterView is the cluster as this node sees it.
type clusterView struct {
	node       *node
	partitions []*actors.Partition
	health     *api.Health
}

const maxProducer = 128

// OpenProducer implements api.Cluster: the epoch is meta's, and every partition
// refuses the older ones before anybody learns it.
func (c *clusterView) OpenProducer(ctx context.Context, producer string) (uint64, error) {
	if producer == "" || len(producer) > maxProducer || !utf8.ValidString(producer) {
		return 0, &actors.Refusal{Code: actors.CodeInvalidArgument, Field: "producer", Message: "must be 1 to 128 bytes of UTF-8"}
	}
	epoch, err := c.node.calls.OpenProducer(ctx, producer)
	if errors.Is(err, meta.ErrTooMany) {
		return 0, &actors.Refusal{Code: actors.CodeResourceExhausted, Field: "producer", Message: err.Error() + "; names are not freed: use fewer, or random ones without an epoch"}
	}
	if err != nil {
		return 0, err
	}
	return epoch, c.node.spread.everywhere(ctx, fenceRequest([]byte(producer), epoch))
}

// quorum says why the node could not serve everything, or nil. It does not block.
func (c *clusterView) quorum() error {
	for _, p := range c.partitions {
		status := c.node.engine.Status(p.Group())
		if status.Err != nil && !errors.Is(status.Err, cluster.ErrNoGroup) {
			return fmt.Errorf("partition %d stopped: %w", p.ID(), status.Err)
		}
		leader, ok := c.node.member.Leader(uint16(p.ID()))
		_, leads := p.Leading()
		if !ok || leader == c.node.stores.id.Node && !leads {
			return fmt.Errorf("partition %d has no leader", p.ID())
		}
	}
	return nil
}

// Verify implements api.Cluster.
func (c *clusterView) Verify(ctx context.Context, limit time.Duration) (*waystationv1.VerifyClusterResponse, error) {
	return c.node.copies.Verify(ctx, limit)
}

// Export implements api.Cluster.
func (c *clusterView) Export(ctx context.Context, group uint32, send func(*waystationv1.ExportGroupResponse) error) error {
	return c.node.copies.Export(ctx, storage.GroupID(group), send)
}

// Drain implements api.Cluster.
func (c *clusterView) Drain(ctx context.Context, node string, undo bool) error {
	state := meta.NodeDraining
	if undo {
		state = meta.NodeActive
	}
	return c.setState(ctx, node, state)
}

// Remove implements api.Cluster.
func (c *clusterView) Remove(ctx context.Context, node string) error {
	return c.setState(ctx, node, meta.NodeRemoved)
}

func (c *clusterView) setState(ctx context.Context, node string, state meta.NodeState) error {
	v := c.node.meta.View()
	n, ok := v.NodeByName(node)
	if id, err := identity.ParseNodeID(node); !ok && err == nil {
		n, ok = v.Node(id)
	}
	if !ok {
		return &actors.Refusal{Code: actors.CodeNotFound, Field: "node", Message: "no node of the cluster has this name or id: see `nodes`"}
	}
	if why := lastOne(v, n.ID, state); why != "" {
		return &actors.Refusal{Code: actors.CodeInvalidArgument, Field: "node", Message: why}
	}
	if state == meta.NodeRemoved {
		return c.removal(n.ID).run(ctx)
	}
	return c.node.calls.SetNodeState(ctx, n.ID, state)
}

// lastOne says why a node cannot go: there would be no other.
func lastOne(v *meta.View, n identity.NodeID, state meta.NodeState) string {
	if state == meta.NodeActive {
		return ""
	}
	if len(v.NodesIn(meta.NodeJoining, meta.NodeActive, meta.NodeDraining)) == 1 {
		return "is the only node: its data would be gone; stop it instead"
	}
	for _, other := range v.NodesIn(meta.NodeJoining, meta.NodeActive) {
		if other.ID != n {
			return ""
		}
	}
	return "all others drain: none would be left to take what it has; undo the drain of another one first, or start a new one"
}
