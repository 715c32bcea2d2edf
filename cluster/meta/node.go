package meta

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/waystation/waystation/cluster/identity"
)

// NodeState is where a node stands in its life as a member. The values are
// stored: never reuse one.
type NodeState uint8

// A node joins, is active, may be drained and undrained, and may be removed
// from anywhere, for good.
const (
	// NodeJoining holds a learner of meta, and nothing else yet.
	NodeJoining NodeState = 1
	// NodeActive holds what the map gives it.
	NodeActive NodeState = 2
	// NodeDraining gives its replicas and leaderships away as far as others can
	// take them.
	NodeDraining NodeState = 3
	// NodeRemoved is a member no longer and never will be again.
	NodeRemoved NodeState = 4
)

// String returns the state in one word.
func (s NodeState) String() string {
	switch s {
	case NodeJoining:
		return "joining"
	case NodeActive:
		return "active"
	case NodeDraining:
		return "draining"
	case NodeRemoved:
		return "removed"
	default:
		return fmt.Sprintf("state(%d)", uint8(s))
	}
}

// leadsTo says whether a node may be brought from s to next.
func (s NodeState) leadsTo(next NodeState) bool {
	switch next {
	case NodeActive, NodeDraining:
		return s != NodeRemoved
	case NodeRemoved:
		return true
	default:
		return false
	}
}

// Addresses are where a node is reached, each as host:port; empty where it
// does not listen.
type Addresses struct{ GRPC, HTTP, Peer, Gossip string }

// Features are the levels that a node's program can run at, both included.
type Features struct{ Min, Max uint32 }

// The feature levels. A cluster's is recorded: never give a number another meaning.
const (
	// FeatureFirst is what every cluster is founded at.
	FeatureFirst = 1
	// FeatureNumbers is that of a cluster that was recovered or restored: sequence
	// numbers lie above what the raft index says (actors/repository).
	FeatureNumbers = 2
)

// Supported are the levels that this program runs at.
func Supported() Features { return Features{Min: FeatureFirst, Max: FeatureNumbers} }

// Has says whether the program runs at level.
func (f Features) Has(level uint32) bool { return f.Min <= level && level <= f.Max }

// Node is a data folder that belongs to the cluster, or did.
type Node struct {
	ID   identity.NodeID
	Name string
	// Boot is the counter of its last recorded start, Life that start's number.
	Boot, Life uint64
	Addresses  Addresses
	// Zone is what fails together with the node's neighbours; empty is a zone too.
	Zone string
	// Version is what its program calls itself.
	Version  string
	Features Features

	// State, and the log times in milliseconds at which the node joined and came
	// into that state, are Apply's: what a command says of them is ignored.
	State               NodeState
	JoinedMs, ChangedMs int64
}

const (
	maxNodeName = 128
	maxAddress  = 255
	maxZone     = 128
	maxVersion  = 128
)

func (n *Node) validate() error {
	switch {
	case n.ID.IsZero():
		return fmt.Errorf("%w: node id: must not be zero", ErrInvalid)
	case len(n.Name) < 1 || len(n.Name) > maxNodeName || !utf8.ValidString(n.Name):
		return fmt.Errorf("%w: node name: must be 1 to %d bytes of UTF-8", ErrInvalid, maxNodeName)
	case n.Boot == 0:
		return fmt.Errorf("%w: boot counter: must not be zero", ErrInvalid)
	case len(n.Zone) > maxZone || !utf8.ValidString(n.Zone):
		return fmt.Errorf("%w: zone: must be at most %d bytes of UTF-8", ErrInvalid, maxZone)
	case len(n.Version) > maxVersion || !utf8.ValidString(n.Version):
		return fmt.Errorf("%w: version: must be at most %d bytes of UTF-8", ErrInvalid, maxVersion)
	case n.Features.Min > n.Features.Max:
		return fmt.Errorf("%w: feature levels: %d to %d", ErrInvalid, n.Features.Min, n.Features.Max)
	}
	for _, a := range n.Addresses.list() {
		if len(*a) > maxAddress || !utf8.ValidString(*a) {
			return fmt.Errorf("%w: address: must be at most %d bytes of UTF-8", ErrInvalid, maxAddress)
		}
	}
	return nil
}

// list is the order in which addresses are laid out.
func (a *Addresses) list() []*string { return []*string{&a.GRPC, &a.HTTP, &a.Peer, &a.Gossip} }

// appendNode lays out what a node says of itself, without its id.
func appendNode(b []byte, n Node) []byte {
	b = appendName(b, n.Name)
	b = binary.BigEndian.AppendUint64(b, n.Boot)
	b = binary.BigEndian.AppendUint64(b, n.Life)
	for _, a := range n.Addresses.list() {
		b = appendName(b, *a)
	}
	b = appendName(appendName(b, n.Zone), n.Version)
	b = binary.BigEndian.AppendUint32(b, n.Features.Min)
	return binary.BigEndian.AppendUint32(b, n.Features.Max)
}

func (d *decoder) node(id identity.NodeID) Node {
	n := Node{ID: id, Name: d.name(), Boot: d.u64(), Life: d.u64()}
	for _, a := range n.Addresses.list() {
		*a = d.name()
	}
	n.Zone, n.Version = d.name(), d.name()
	n.Features = Features{Min: d.u32(), Max: d.u32()}
	return n
}

func nodeRecord(n Node) Record {
	b := appendNode([]byte{version1}, n)
	b = append(b, byte(n.State))
	b = binary.BigEndian.AppendUint64(b, uint64(n.JoinedMs))
	b = binary.BigEndian.AppendUint64(b, uint64(n.ChangedMs))
	return Record{append(key(tableNode), n.ID[:]...), b}
}

func parseNode(k, b []byte) (Node, error) {
	var id identity.NodeID
	if len(k) != len(key(tableNode))+len(id) {
		return Node{}, errBroken
	}
	copy(id[:], k[3:])
	d := decode(b)
	n := d.node(id)
	n.State = NodeState(d.oneOf(byte(NodeJoining), byte(NodeRemoved)))
	n.JoinedMs, n.ChangedMs = int64(d.u64()), int64(d.u64())
	return n, d.end()
}
