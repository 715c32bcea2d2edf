package meta

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"slices"

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
	// Generation counts the changes of the map.
	Generation uint64
}

// Group is a consumer group. Settings are the bytes of its configuration.
type Group struct {
	ID       uint32
	Name     string
	Version  uint32
	Settings []byte
}

// View is meta's state at one moment, without the producers. It is immutable
// and sorted: nodes and groups by id, replicas by group and id, placements by
// group, operations by number.
type View struct {
	Cluster    Cluster
	Nodes      []Node
	Replicas   []Replica
	Placements []Placement
	Groups     []Group
	Operations []Operation
}

// Made says that the cluster exists.
func (v *View) Made() bool { return !v.Cluster.ID.IsZero() }

// Node returns a node's record.
func (v *View) Node(id identity.NodeID) (Node, bool) {
	if i, ok := v.findNode(id); ok {
		return v.Nodes[i], true
	}
	return Node{}, false
}

// NodeByName returns the member of that name; one that was removed is none.
func (v *View) NodeByName(name string) (Node, bool) {
	for _, n := range v.Nodes {
		if n.Name == name && n.State != NodeRemoved {
			return n, true
		}
	}
	return Node{}, false
}

// NodesIn returns the nodes that are in one of the states.
func (v *View) NodesIn(states ...NodeState) []Node {
	var out []Node
	for _, n := range v.Nodes {
		if slices.Contains(states, n.State) {
			out = append(out, n)
		}
	}
	return out
}

// GroupReplicas returns all replicas of group g that meta still knows, in the
// order of their ids, whatever their state. The slice is shared.
func (v *View) GroupReplicas(g storage.GroupID) []Replica {
	from, _ := v.findReplica(g, 0)
	to, _ := v.findReplica(g+1, 0)
	return v.Replicas[from:to:to]
}

// Wish returns the replicas that the map wants group g to have.
func (v *View) Wish(g storage.GroupID) []Replica {
	var out []Replica
	for _, r := range v.GroupReplicas(g) {
		if r.State == ReplicaWanted {
			out = append(out, r)
		}
	}
	return out
}

// ReplicasOn returns the replicas on a node that meta still knows, whatever
// their state: what State.Runs is true of is to run, the rest is to be deleted
// and reported gone.
func (v *View) ReplicasOn(n identity.NodeID) []Replica {
	var out []Replica
	for _, r := range v.Replicas {
		if r.Node == n {
			out = append(out, r)
		}
	}
	return out
}

// ReplicaOn returns the replica of group g that a node runs or is to run.
func (v *View) ReplicaOn(g storage.GroupID, n identity.NodeID) (storage.ReplicaID, bool) {
	id, ok := storage.ReplicaID(0), false
	for _, r := range v.GroupReplicas(g) {
		if r.Node == n && r.State.Runs() {
			id, ok = r.ID, true // the newest, should one be leaving
		}
	}
	return id, ok
}

// Replica returns a replica of group g that meta still knows.
func (v *View) Replica(g storage.GroupID, id storage.ReplicaID) (Replica, bool) {
	if i, ok := v.findReplica(g, id); ok {
		return v.Replicas[i], true
	}
	return Replica{}, false
}

// Doomed says that meta has given replica id of group g up for good: whoever
// has it deletes it. It is never true of a replica that this view is only too
// old to know.
func (v *View) Doomed(g storage.GroupID, id storage.ReplicaID) bool {
	if r, ok := v.Replica(g, id); ok {
		return !r.State.Runs()
	}
	return id < v.Cluster.NextReplica
}

// NodeOf returns the node that a replica of group g lies on.
func (v *View) NodeOf(g storage.GroupID, id storage.ReplicaID) (identity.NodeID, bool) {
	r, ok := v.Replica(g, id)
	return r.Node, ok
}

// Placement returns what meta knows of group g as a whole.
func (v *View) Placement(g storage.GroupID) (Placement, bool) {
	if i, ok := v.findPlacement(g); ok {
		return v.Placements[i], true
	}
	return Placement{}, false
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

// GroupDeleted says that a consumer group had that id, and was deleted. It is never
// true of one that this view is only too old to know.
func (v *View) GroupDeleted(id uint32) bool {
	_, there := slices.BinarySearchFunc(v.Groups, id, func(g Group, id uint32) int { return cmp.Compare(g.ID, id) })
	return !there && id < v.Cluster.NextGroup
}

func (v *View) findNode(id identity.NodeID) (int, bool) {
	return slices.BinarySearchFunc(v.Nodes, id, func(n Node, id identity.NodeID) int {
		return bytes.Compare(n.ID[:], id[:])
	})
}

func (v *View) findReplica(g storage.GroupID, id storage.ReplicaID) (int, bool) {
	return slices.BinarySearchFunc(v.Replicas, Replica{Group: g, ID: id}, compareReplicas)
}

func compareReplicas(a, b Replica) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.ID, b.ID))
}

func (v *View) findPlacement(g storage.GroupID) (int, bool) {
	return slices.BinarySearchFunc(v.Placements, g, func(p Placement, g storage.GroupID) int {
		return cmp.Compare(p.Group, g)
	})
}

// PartitionGroup returns the raft group of partition p.
func PartitionGroup(p uint16) storage.GroupID { return storage.GroupID(p) + 1 }

// MetaGroup is the raft group of meta itself.
const MetaGroup storage.GroupID = 0

// FirstReplica is the replica of meta on the node that makes the cluster: it
// has to have an id before there is a meta that could give it one.
const FirstReplica storage.ReplicaID = 1
