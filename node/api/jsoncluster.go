package api

import (
	"strconv"
	"time"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

type jsonAddresses struct {
	GRPC   string `json:"grpc"`
	HTTP   string `json:"http"`
	Gossip string `json:"gossip,omitempty"`
	Peer   string `json:"peer,omitempty"`
}

type jsonNode struct {
	ID        string        `json:"id"`
	Name      string        `json:"name"`
	State     string        `json:"state"`
	Addresses jsonAddresses `json:"addresses"`
	Version   string        `json:"version"`
	Zone      string        `json:"zone"`
	Leaders   uint32        `json:"leaders"`
	Replicas  uint32        `json:"replicas"`
}

type jsonPartition struct {
	ID            uint32   `json:"id"`
	Leader        string   `json:"leader"`
	Voters        []string `json:"voters"`
	Learners      []string `json:"learners"`
	Applied       uint64   `json:"applied,string"`
	DurableCopies uint32   `json:"durable_copies"`
	Moving        string   `json:"moving,omitempty"`
}

// ClusterJSON is the nodes and partitions of a cluster.
type ClusterJSON struct {
	ClusterID  string          `json:"cluster_id"`
	Name       string          `json:"name"`
	Nodes      []jsonNode      `json:"nodes"`
	Partitions []jsonPartition `json:"partitions"`
	Moving     string          `json:"moving,omitempty"`
	Operations []jsonOperation `json:"operations,omitempty"`
}

type jsonOperation struct {
	At   string `json:"at"`
	Text string `json:"text"`
}

// DescribeJSON is what GET /v1/cluster answers.
func DescribeJSON(resp *waystationv1.DescribeClusterResponse) ClusterJSON {
	out := ClusterJSON{
		ClusterID: resp.GetClusterId(), Name: resp.GetName(),
		Nodes: make([]jsonNode, 0, len(resp.GetNodes())), Partitions: make([]jsonPartition, 0, len(resp.GetPartitions())),
	}
	for _, n := range resp.GetNodes() {
		a := n.GetAddresses()
		out.Nodes = append(out.Nodes, jsonNode{
			ID: n.GetId(), Name: n.GetName(), State: n.GetState(), Version: n.GetVersion(), Zone: n.GetZone(),
			Leaders: n.GetLeaders(), Replicas: n.GetReplicas(),
			Addresses: jsonAddresses{GRPC: a.GetGrpc(), HTTP: a.GetHttp(), Gossip: a.GetGossip(), Peer: a.GetPeer()},
		})
	}
	for _, p := range resp.GetPartitions() {
		out.Partitions = append(out.Partitions, jsonPartition{
			ID: p.GetId(), Leader: p.GetLeader(), Voters: list(p.GetVoters()), Learners: list(p.GetLearners()),
			Applied: p.GetApplied(), DurableCopies: p.GetDurableCopies(), Moving: p.GetMoving(),
		})
	}
	out.Moving = resp.GetMoving()
	for _, o := range resp.GetOperations() {
		out.Operations = append(out.Operations, jsonOperation{At: o.GetAt().AsTime().Format(time.RFC3339Nano), Text: o.GetText()})
	}
	return out
}

// list is never null.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func jsonSeconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}
