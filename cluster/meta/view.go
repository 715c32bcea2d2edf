package meta

import (
	"encoding/hex"
	"slices"
	"strings"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

// ClusterID names a cluster; it is drawn at random when the cluster is made.
type ClusterID [16]byte

// String returns the id as 32 hexadecimal digits.
func (c ClusterID) String() string { return hex.EncodeToString(c[:]) }

// IsZero says that there is no id.
func (c ClusterID) IsZero() bool { return c == ClusterID{} }

// Cluster is what is fixed when a cluster is made, and the counters from which
// ids are given out.
type Cluster struct {
	ID   ClusterID
	Name string
	// Partitions and HashSeed decide where a repository lies: they are part of
	// the storage format and never change.
	Partitions uint16
	HashSeed   uint64
	// FeatureLevel is what all nodes support.
	FeatureLevel uint32
	// NextReplica and NextGroup are the next ids; none is ever used again.
	NextReplica storage.ReplicaID
	NextGroup   uint32
	// Producers counts the names that ever had an epoch.
	Producers uint32
}

// Node is a data folder that belongs to the cluster.
type Node struct {
	ID   identity.NodeID
	Name string
	// Boot is the counter of its last recorded start, Life that start's number.
	Boot, Life uint64
}

// Replica says where a replica lies.
type Replica struct {
	ID    storage.ReplicaID
	Group storage.GroupID
	Node  identity.NodeID
}

// Group is a consumer group. Settings are the bytes of its configuration.
type Group struct {
	ID       uint32
	Name     string
	Version  uint32
	Settings []byte
}

// View is meta's state at one moment, without the producers. It is immutable
// and sorted: nodes, replicas and groups by id.
type View struct {
	Cluster  Cluster
	Nodes    []Node
	Replicas []Replica
	Groups   []Group
}

// Made says that the cluster exists.
func (v *View) Made() bool { return !v.Cluster.ID.IsZero() }

// ReplicaOn returns the replica of group g on a node.
func (v *View) ReplicaOn(g storage.GroupID, n identity.NodeID) (storage.ReplicaID, bool) {
	for _, r := range v.Replicas {
		if r.Group == g && r.Node == n {
			return r.ID, true
		}
	}
	return 0, false
}

// Node returns a node's record.
func (v *View) Node(id identity.NodeID) (Node, bool) {
	if i, ok := v.findNode(id); ok {
		return v.Nodes[i], true
	}
	return Node{}, false
}

// Group returns a consumer group by its name.
func (v *View) Group(name string) (Group, bool) {
	for _, g := range v.Groups {
		if g.Name == name {
			return g, true
		}
	}
	return Group{}, false
}

func (v *View) findNode(id identity.NodeID) (int, bool) {
	return slices.BinarySearchFunc(v.Nodes, id, func(n Node, id identity.NodeID) int {
		return strings.Compare(string(n.ID[:]), string(id[:]))
	})
}

// withNode returns a copy of v that has n.
func (v *View) withNode(n Node) *View {
	next := *v
	next.Nodes = slices.Clone(v.Nodes)
	if i, ok := v.findNode(n.ID); ok {
		next.Nodes[i] = n
	} else {
		next.Nodes = slices.Insert(next.Nodes, i, n)
	}
	return &next
}

// PartitionGroup returns the raft group of partition p.
func PartitionGroup(p uint16) storage.GroupID { return storage.GroupID(p) + 1 }

// MetaGroup is the raft group of meta itself.
const MetaGroup storage.GroupID = 0

// FirstReplica is the replica of meta on the node that makes the cluster: it
// has to have an id before there is a meta that could give it one.
const FirstReplica storage.ReplicaID = 1
