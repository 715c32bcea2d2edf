package discovery

import "errors"

var (
	// ErrSelf says that --join leads to this node itself.
	ErrSelf = errors.New("--join names this node itself")
	// ErrCopied says that another process runs with this node's id.
	ErrCopied = errors.New("another node runs with a copy of this data folder")
	// ErrOtherCluster says that this node's data belongs to another cluster than
	// the one it would join.
	ErrOtherCluster = errors.New("the data folder belongs to another cluster")
	// ErrOtherName says that a cluster has another name than the configured one.
	ErrOtherName = errors.New("another cluster name")
	// ErrNoCluster says that a node is there and belongs to no cluster yet: try
	// again later.
	ErrNoCluster = errors.New("no cluster there yet")
	// ErrVersion says that this node's program is too old for the cluster.
	ErrVersion = errors.New("incompatible version")
	// ErrFormat says that two nodes' data don't fit: partitions, hash, format.
	ErrFormat = errors.New("incompatible format")
	// ErrTakenName says that another node of the cluster has this node's name.
	ErrTakenName = errors.New("node name is taken")
	// ErrSeveral says that several clusters of one name run on this machine.
	ErrSeveral = errors.New("several clusters of this name run on this machine")
	// ErrPortTaken says that a default port belongs to some other program.
	ErrPortTaken = errors.New("port is taken by another program")
)
