package storage

// GroupID names a raft group: 0 is meta, p+1 is partition p.
type GroupID uint32

// ReplicaID names a replica within the cluster. It comes from meta and is never used again.
type ReplicaID uint64

// Entry is one entry of a group's raft log. Data that the log returns belongs to the
// caller; data given to LogBatch.Append is copied.
type Entry struct {
	Index uint64
	Term  uint64
	Type  uint8
	Data  []byte
}

// HardState is what raft requires to be durable besides the entries.
type HardState struct {
	Term   uint64
	Vote   uint64
	Commit uint64
}

// ReplicaState says whether a replica lives here.
type ReplicaState = uint8

// The states of a replica record. Zero is none, so that a forgotten field is seen.
const (
	ReplicaLive      ReplicaState = 1
	ReplicaTombstone ReplicaState = 2
)

// Position is the index and term of one entry.
type Position struct {
	Index uint64
	Term  uint64
}

// ReplicaMeta says which replica of a group this node holds, and how far the group's log
// was truncated (Truncated is the last entry that is gone).
type ReplicaMeta struct {
	Group     GroupID
	Replica   ReplicaID
	State     ReplicaState
	Truncated Position
}
