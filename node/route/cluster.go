package route

import "github.com/waystation/waystation/actors/repository"

// Cluster says who leads. All methods are quick, and may be called at the same
// time.
type Cluster interface {
	// Leader is the node that leads a partition; local says that it is this one. ok
	// is false as long as nobody is known to.
	Leader(p repository.PartitionID) (node string, local, ok bool)
	// Nodes are the other nodes that serve.
	Nodes() []Node
	// Changed is closed when a leader or a node is another one than now.
	Changed() <-chan struct{}
	// Suspect says that a node does not behave as p's leader.
	Suspect(p repository.PartitionID, node string)
}

// Node is another node.
type Node struct {
	// ID is what Leader names it by.
	ID string
	// PeerAddr is its peer port, GRPCAddr its public one: host:port.
	PeerAddr, GRPCAddr string
}
