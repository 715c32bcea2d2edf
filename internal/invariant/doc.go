// Package invariant breaks the rules of PROTOCOL.md on purpose, one at a time, so
// that the simulator can show that it notices. Without the build tag planted,
// which no binary that anybody runs has, [Broken] is a constant false, and what
// stands behind it is not compiled.
package invariant

// Bug is a rule that can be broken.
type Bug string

// The bugs, each with the rule that it breaks.
const (
	// CommitBehind leaves the hard state's commit index behind the applied index
	// at start (pitfall 2 of the engine).
	CommitBehind Bug = "commit-behind"
	// StaleTail counts a log's stale tail from the last index that was confirmed,
	// and not from the last that was handed out (pitfall 3).
	StaleTail Bug = "stale-tail"
	// Unavailable answers a read that a truncation overtook as if the entry were
	// still to come (pitfall 4).
	Unavailable Bug = "unavailable"
	// SnapshotOrder clears the log before the snapshot's state is durable (5.2).
	SnapshotOrder Bug = "snapshot-order"
	// Reset lets a replica whose log and state do not fit go on (5.3).
	Reset Bug = "reset"
	// DedupOnLeader has Apply believe what the leader's filter let through (1.1).
	DedupOnLeader Bug = "dedup-on-leader"
	// DedupApart writes a packet's id with the entry after it (P3).
	DedupApart Bug = "dedup-apart"
	// LeasesLost keeps open leases out of the replicated state (3.2).
	LeasesLost Bug = "leases-lost"
	// AckEarly says that entries are in the log before they are synced (P1).
	AckEarly Bug = "ack-early"
)
