package server

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/meta"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/api"
	"github.com/waystation/waystation/node/config"
)

// clusterView is the cluster as this node sees it: for now, itself.
type clusterView struct {
	engine     *cluster.Engine
	store      *meta.Store
	calls      *meta.Calls
	partitions []*actors.Partition
	endpoints  *config.Endpoints
	health     *api.Health
}

const maxProducer = 128

// OpenProducer implements api.Cluster: the epoch is meta's, and every partition
// refuses the older ones before anybody learns it.
func (c *clusterView) OpenProducer(ctx context.Context, producer string) (uint64, error) {
	if producer == "" || len(producer) > maxProducer || !utf8.ValidString(producer) {
		return 0, &actors.Refusal{Code: actors.CodeInvalidArgument, Field: "producer", Message: "must be 1 to 128 bytes of UTF-8"}
	}
	epoch, err := c.calls.OpenProducer(ctx, producer)
	if errors.Is(err, meta.ErrTooMany) {
		return 0, &actors.Refusal{Code: actors.CodeResourceExhausted, Field: "producer", Message: err.Error() + "; names are not freed: use fewer, or random ones without an epoch"}
	}
	if err != nil {
		return 0, err
	}
	name := []byte(producer)
	err = everywhere(ctx, c.partitions, func(b *repository.EntryBuilder) { b.AddFence(name, epoch) })
	return epoch, err
}

// Describe implements api.Cluster.
func (c *clusterView) Describe() *waystationv1.DescribeClusterResponse {
	view, self := c.store.View(), c.endpoints.NodeID
	node := &waystationv1.Node{
		Id: self, Name: c.endpoints.Name, State: c.health.State(), Version: c.endpoints.Version,
		Addresses: &waystationv1.Addresses{Grpc: c.endpoints.Addresses.GRPC, Http: c.endpoints.Addresses.HTTP},
		Replicas:  uint32(len(c.partitions)),
	}
	out := &waystationv1.DescribeClusterResponse{
		ClusterId: view.Cluster.ID.String(), Name: view.Cluster.Name, Nodes: []*waystationv1.Node{node},
	}
	for _, p := range c.partitions {
		status := c.engine.Status(p.Group())
		d := &waystationv1.Partition{Id: uint32(p.ID()), Voters: []string{self}, Applied: status.Applied}
		if status.Leads {
			d.Leader = self
			node.Leaders++
		}
		if status.Err == nil {
			d.DurableCopies = 1
		}
		out.Partitions = append(out.Partitions, d)
	}
	return out
}

// quorum says why the node could not serve everything, or nil. It does not block.
func (c *clusterView) quorum() error {
	for _, p := range c.partitions {
		status := c.engine.Status(p.Group())
		if status.Err != nil {
			return fmt.Errorf("partition %d stopped: %w", p.ID(), status.Err)
		}
		if _, ok := p.Leading(); !ok {
			return fmt.Errorf("partition %d has no leader", p.ID())
		}
	}
	return nil
}
