package route

import "github.com/waystation/waystation/actors/repository"

// Cluster says who leads. All methods are quick, and may be called at the same
// time.
type Cluster interface {
	// Leader is the node that leads a partition. ok is false as long as nobody is
	// known to.
	Leader(p repository.PartitionID) (l Leader, ok bool)
	// Self is this node; only its PeerAddr may be missing.
	Self() Node
	// Nodes are the other nodes that serve.
	Nodes() []Node
	// Changed is closed when a leader or a node is another one than now.
	Changed() <-chan struct{}
	// Suspect says that a node does not behave as p's leader.
	Suspect(p repository.PartitionID, node string)
}

// Leader is a partition's leader.
type Leader struct {
	// Node is its ID; Local says that it is this one.
	Node  string
	Local bool
	// Term is when it leads: what nodes say of a higher one is newer.
	Term uint64
}

// Node is a node.
type Node struct {
	// ID is what Leader names it by.
	ID string
	// PeerAddr is its peer port, GRPCAddr its public one: host:port.
	PeerAddr, GRPCAddr string
}
