package cluster

import (
	"errors"

	"github.com/waystation/waystation/cluster/replica"
)

var (
	// ErrUnknown says that the outcome of a proposal cannot be known. To try
	// again is safe only for what Apply recognises as the same.
	ErrUnknown = errors.New("outcome unknown")
	// ErrStopped says that the engine, or the replica, runs no more. Nothing
	// was proposed.
	ErrStopped = errors.New("engine is stopped")
	// ErrNoGroup says that this node holds no replica of the group.
	ErrNoGroup = errors.New("no replica of this group")

	// ErrNotLeader says that this node does not lead in the term that was
	// named. Nothing was proposed.
	ErrNotLeader = replica.ErrNotLeader
	// ErrDropped says that too much waits already. Nothing was proposed.
	ErrDropped = replica.ErrDropped
	// ErrQuarantined says that a replica's log and state do not fit together, or
	// that one of them is damaged.
	ErrQuarantined = replica.ErrQuarantined
	// ErrConf says that a change of a group's replicas makes no sense, or comes
	// while another one is under way: nothing was changed.
	ErrConf = replica.ErrConf
	// ErrTombstone says that a replica was removed from this node.
	ErrTombstone = replica.ErrTombstone
)
