package client

import (
	"context"
	"fmt"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// NodeInfo is one node of a cluster.
type NodeInfo struct {
	ID   string
	Name string
	// State is one of starting, up, draining, down.
	State string
	// GRPC, HTTP, Gossip and Peer are addresses; empty where a port is closed.
	GRPC, HTTP, Gossip, Peer string
	Version                  string
	Zone                     string
	Leaders, Replicas        uint32
}

// PartitionInfo is one partition of a cluster.
type PartitionInfo struct {
	ID uint32
	// Leader, Voters and Learners are node ids.
	Leader           string
	Voters, Learners []string
	// Applied is the newest log index whose effects are in the leader's state.
	Applied uint64
	// DurableCopies counts the voters that hold what is acknowledged.
	DurableCopies uint32
}

// ClusterInfo is the answer of Cluster.
type ClusterInfo struct {
	ClusterID  string
	Name       string
	Nodes      []NodeInfo
	Partitions []PartitionInfo
	// HashSeed decides where a repository lies, see the proto.
	HashSeed uint64
}

// Cluster returns the relay's nodes and partitions.
func (c *Client) Cluster(ctx context.Context) (*ClusterInfo, error) {
	var resp *waystationv1.DescribeClusterResponse
	err := c.call(ctx, func(ctx context.Context, s waystationv1.WaystationClient) (err error) {
		resp, err = s.DescribeCluster(ctx, &waystationv1.DescribeClusterRequest{})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("describe cluster: %w", err)
	}
	info := &ClusterInfo{ClusterID: resp.GetClusterId(), Name: resp.GetName(), HashSeed: resp.GetHashSeed()}
	for _, n := range resp.GetNodes() {
		a := n.GetAddresses()
		info.Nodes = append(info.Nodes, NodeInfo{
			ID: n.GetId(), Name: n.GetName(), State: n.GetState(), GRPC: a.GetGrpc(), HTTP: a.GetHttp(),
			Gossip: a.GetGossip(), Peer: a.GetPeer(), Version: n.GetVersion(), Zone: n.GetZone(),
			Leaders: n.GetLeaders(), Replicas: n.GetReplicas(),
		})
	}
	for _, p := range resp.GetPartitions() {
		info.Partitions = append(info.Partitions, PartitionInfo{
			ID: p.GetId(), Leader: p.GetLeader(), Voters: p.GetVoters(), Learners: p.GetLearners(),
			Applied: p.GetApplied(), DurableCopies: p.GetDurableCopies(),
		})
	}
	return info, nil
}
