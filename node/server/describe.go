package server

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waystation/waystation/cluster/gossip"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/storage"
)

// reportLimit is how long the others have to say what their replicas do. Who
// does not is shown as unreachable.
const reportLimit = time.Second

// Describe implements api.Cluster: it asks every node.
func (c *clusterView) Describe(ctx context.Context) *waystationv1.DescribeClusterResponse {
	ctx, cancel := context.WithTimeout(ctx, reportLimit)
	defer cancel()
	view := c.node.meta.View()
	reports := c.node.member.Reports(ctx)
	out := &waystationv1.DescribeClusterResponse{ClusterId: view.Cluster.ID.String(), Name: view.Cluster.Name, HashSeed: view.Cluster.HashSeed}
	nodes := map[identity.NodeID]*waystationv1.Node{}
	for _, n := range view.Nodes {
		if n.State == meta.NodeRemoved {
			continue
		}
		d := &waystationv1.Node{
			Id: n.ID.String(), Name: n.Name, State: c.stateOf(&n, reports[n.ID]), Version: n.Version, Zone: n.Zone,
			Addresses: &waystationv1.Addresses{Grpc: n.Addresses.GRPC, Http: n.Addresses.HTTP, Gossip: n.Addresses.Gossip, Peer: n.Addresses.Peer},
		}
		nodes[n.ID] = d
		out.Nodes = append(out.Nodes, d)
	}
	slices.SortFunc(out.Nodes, func(a, b *waystationv1.Node) int { return strings.Compare(a.GetName(), b.GetName()) })
	for _, o := range view.Operations {
		out.Operations = append(out.Operations, &waystationv1.Operation{At: timestamppb.New(time.UnixMilli(o.TimeMs)), Text: o.Text})
	}
	out.Moving = c.describe(0, meta.MetaGroup, view, reports, nil).GetMoving()
	for _, p := range c.partitions {
		out.Partitions = append(out.Partitions, c.describe(uint32(p.ID()), p.Group(), view, reports, nodes))
	}
	return out
}

// stateOf is what a node does: its own word, unless meta or silence says more.
func (c *clusterView) stateOf(n *meta.Node, r *peerv1.ReportResponse) string {
	switch {
	case n.ID == c.node.stores.id.Node && n.State == meta.NodeActive:
		if t := c.node.trouble(); t != "" {
			return t
		}
		return c.health.State()
	case r == nil:
		return "down"
	case n.State != meta.NodeActive:
		return n.State.String()
	}
	if r.GetState() == gossip.Serving.String() {
		return "up"
	}
	return r.GetState()
}

func (c *clusterView) describe(id uint32, g storage.GroupID, view *meta.View, reports map[identity.NodeID]*peerv1.ReportResponse, nodes map[identity.NodeID]*waystationv1.Node) *waystationv1.Partition {
	d := &waystationv1.Partition{Id: id}
	var leads *peerv1.GroupReport
	for n, r := range reports {
		x := groupOfReport(r, g)
		if x == nil {
			continue
		}
		if node := nodes[n]; node != nil {
			node.Replicas++
		}
		if x.GetError() == "" && x.GetLeader() == x.GetReplica() && x.GetReplica() != 0 && (leads == nil || x.GetTerm() > leads.GetTerm()) {
			leads = x
			d.Leader = n.String()
		}
		d.Applied = max(d.Applied, x.GetApplied())
	}
	if leads == nil {
		return d
	}
	if n, ok := view.NodeOf(g, storage.ReplicaID(leads.GetLeader())); ok && nodes[n] != nil {
		nodes[n].Leaders++
	}
	for _, v := range leads.GetVoters() {
		d.Voters = append(d.Voters, nameOf(view, g, v))
	}
	for _, v := range leads.GetLearners() {
		d.Learners = append(d.Learners, nameOf(view, g, v))
	}
	d.DurableCopies, d.Moving = durable(leads), leads.GetMoves()
	return d
}

// nameOf is the id of the node that a replica lies on.
func nameOf(view *meta.View, g storage.GroupID, replica uint64) string {
	n, ok := view.NodeOf(g, storage.ReplicaID(replica))
	if !ok {
		return "?"
	}
	return n.String()
}

// durable counts the voters that have all that is acknowledged on disk, as far as
// the leader knows: itself, and who has been heard of and lacks nothing but what is
// on its way (the leader's word of what is committed leaves that out).
func durable(leads *peerv1.GroupReport) uint32 {
	n := uint32(1)
	for _, p := range leads.GetProgress() {
		if !p.GetLearner() && p.GetActive() && p.GetMatch() >= leads.GetCommit() {
			n++
		}
	}
	return max(n, uint32(len(leads.GetVoters())/2+1))
}

func groupOfReport(r *peerv1.ReportResponse, g storage.GroupID) *peerv1.GroupReport {
	for _, x := range r.GetGroups() {
		if storage.GroupID(x.GetGroup()) == g {
			return x
		}
	}
	return nil
}
