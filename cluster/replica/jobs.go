package replica

import (
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/storage"
)

// Jobs is what a replica wants done. Append and Apply are nil when there is
// nothing to do; the parts may run beside each other.
type Jobs struct {
	Append *AppendJob
	Apply  *ApplyJob
	// Send goes to other replicas at once, whether or not Append is done.
	Send []*pb.Message
	// Reads are confirmed: each may be answered once its index is applied.
	Reads []Read
	// Change is set when term, leader or this replica's role changed.
	Change *Change
	// Snapshots are to be sent to replicas that lack what was cut off: the
	// message's index, term and configuration are to be replaced by those of the
	// state that is sent. Each is answered with ReportSnapshot, whatever comes of
	// it, or with nothing once the leadership is lost.
	Snapshots []*pb.Message
}

// AppendJob is written into the log in one batch: first the stale tail goes,
// then Entries and HardState are set. If Install is set, that goes before all
// else, and HardState is written with it.
type AppendJob struct {
	// Install is a snapshot that takes the place of state and log.
	Install *Install
	// StaleFrom to StaleTo, both inclusive, are written entries that Entries
	// overwrite. There are none if StaleFrom is 0.
	StaleFrom, StaleTo uint64
	// Entries and their payloads are shared: they must not be changed.
	Entries   []storage.Entry
	HardState *storage.HardState
	// Sync says that the job must be synced before Appended is called. A job
	// that does not ask for it, and writes nothing, still waits for the jobs
	// before it.
	Sync bool

	responses []*pb.Message
}

// Empty says that nothing is to be written: the job only waits for those
// before it.
func (j *AppendJob) Empty() bool {
	return len(j.Entries) == 0 && j.HardState == nil && j.Install == nil
}

// ApplyJob is a run of committed entries. Normal ones without data are a new
// leader's first; those for which IsConfChange holds change the configuration:
// who applies them stores what Conf.Next makes of them with the applied index.
type ApplyJob struct {
	// Entries and their payloads are shared: they must not be changed.
	Entries []storage.Entry

	responses []*pb.Message
}

// TruncateJob cuts the log off up to To, inclusive.
type TruncateJob struct{ To storage.Position }

// Read is a confirmed read: who asked with ID may be answered from a state
// that is applied to Index or further.
type Read struct{ ID, Index uint64 }

// Change is a new term, leader or role.
type Change struct {
	Term uint64
	// Leader is 0 while none is known.
	Leader storage.ReplicaID
	// Leads says that this replica is the leader. Its own term's first entry
	// may not be committed yet.
	Leads bool
}
