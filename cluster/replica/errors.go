package replica

import "errors"

var (
	// ErrNotLeader says that this replica does not lead in the term that was
	// named: nothing was proposed.
	ErrNotLeader = errors.New("replica is not the leader of this term")
	// ErrDropped says that raft did not take the proposal (too much is
	// uncommitted, or leadership is being handed over): nothing was proposed.
	ErrDropped = errors.New("proposal dropped")
	// ErrQuarantined says that a replica's log and state do not fit together.
	// Such a replica may neither vote nor acknowledge: what it once promised
	// is no longer in its log.
	ErrQuarantined = errors.New("replica is quarantined")
	// ErrTombstone says that the replica was removed from this node; its id is
	// never used again.
	ErrTombstone = errors.New("replica was removed from this node")
	// ErrSnapshot says that a snapshot was not taken: it is not newer than what
	// this replica has, or its message came without its data.
	ErrSnapshot = errors.New("snapshot not taken")
	// ErrMisdirected says that a message is for another replica.
	ErrMisdirected = errors.New("message misdirected")
	// ErrConf says that a change of the configuration makes no sense, or comes
	// while another one is under way: nothing was changed.
	ErrConf = errors.New("change of configuration refused")
)
