package server

import (
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/node/member"
	"github.com/waystation/waystation/node/route"
)

// routing is the cluster as the router wants to know it.
type routing struct {
	member *member.Member
	self   identity.NodeID
	view   func() *meta.View
}

// Leader implements route.Cluster.
func (r routing) Leader(p repository.PartitionID) (route.Leader, bool) {
	n, term, ok := r.member.LeaderIn(uint16(p))
	if !ok {
		return route.Leader{}, false
	}
	return route.Leader{Node: n.String(), Term: term, Local: n == r.self}, true
}

// Self implements route.Cluster.
func (r routing) Self() route.Node {
	n := route.Node{ID: r.self.String()}
	for _, x := range r.view().Nodes {
		if x.ID == r.self {
			n.PeerAddr, n.GRPCAddr = x.Addresses.Peer, x.Addresses.GRPC
		}
	}
	return n
}

// Nodes implements route.Cluster.
func (r routing) Nodes() []route.Node {
	var out []route.Node
	for _, n := range r.view().NodesIn(meta.NodeJoining, meta.NodeActive, meta.NodeDraining) {
		if n.ID == r.self {
			continue
		}
		addr, ok := r.member.PeerAddress(n.ID)
		if !ok {
			continue
		}
		out = append(out, route.Node{ID: n.ID.String(), PeerAddr: addr, GRPCAddr: n.Addresses.GRPC})
	}
	return out
}

// Changed implements route.Cluster.
func (r routing) Changed() <-chan struct{} { return r.member.LeadersChanged() }

// Suspect implements route.Cluster: leaders are looked at all the time.
func (r routing) Suspect(repository.PartitionID, string) {}
