package replica

import (
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/internal/invariant"
	"github.com/waystation/waystation/storage"
)

// Install is a snapshot that raft has accepted: what was staged of it takes the
// place of the group's state, and its position that of the log. While it is
// under way nothing of the group is applied, and no later append job written.
type Install struct {
	To   storage.Position
	Conf Conf
}

// InstallStep is one step of an Install. The next one begins when what the one
// before wrote can no longer be lost.
type InstallStep uint8

const (
	// InstallMark writes the position into the log as a marker, synced: from
	// here on a start knows that state and log may be of different ages.
	InstallMark InstallStep = iota + 1
	// InstallState puts what was staged in the place of the group's state, and
	// confirms that a crash could not take it back.
	InstallState
	// InstallLog writes one synced batch: the hard state, the position as the
	// log's truncation, all entries gone, the marker removed.
	InstallLog
	// InstallReload has the state machine read its state anew.
	InstallReload
	// InstallAnswer is [Replica.Appended]: the leader may be told.
	InstallAnswer
)

// InstallSteps returns the steps in their order. To clear the log first would
// lose entries that this replica has acknowledged, if a crash came before the
// state is there; to answer before the log is reset would promise what a crash
// can still take.
func InstallSteps() []InstallStep {
	if invariant.Broken(invariant.SnapshotOrder) {
		return []InstallStep{InstallMark, InstallLog, InstallState, InstallReload, InstallAnswer}
	}
	return []InstallStep{InstallMark, InstallState, InstallLog, InstallReload, InstallAnswer}
}

// String is for logs and tests.
func (s InstallStep) String() string {
	return [...]string{"?", "mark", "state", "log", "reload", "answer"}[min(int(s), 5)]
}

// StepSnapshot takes a snapshot's message from another replica, all of whose
// data is staged. If raft takes it, the next append job has an Install of that
// position; if none of the following jobs has, the staged data is of no use.
func (r *Replica) StepSnapshot(m *pb.Message) error { return r.step(m) }

// ReportSnapshot says what came of a snapshot that was asked for by
// Jobs.Snapshots. After a failure there is none for an election timeout: whoever
// cannot take it now is not to be tried all the time.
func (r *Replica) ReportSnapshot(to storage.ReplicaID, ok bool) {
	status := raft.SnapshotFinish
	if !ok {
		status = raft.SnapshotFailure
		r.snapshotAfter = r.ticks + uint64(r.cfg.ElectionTicks)
	}
	r.rn.ReportSnapshot(uint64(to), status)
}

// ReportUnreachable says that a message to a replica was lost: raft sends to it one
// at a time until it answers, instead of going on with what follows.
func (r *Replica) ReportUnreachable(to storage.ReplicaID) { r.rn.ReportUnreachable(uint64(to)) }

// snapshot is what raft gets for one: where the state is now. What is sent will
// be a little newer.
func (r *Replica) snapshot() *pb.Snapshot {
	if r.ticks < r.snapshotAfter {
		return nil
	}
	index := r.rn.BasicStatus().Applied
	term, err := r.log.Term(index)
	if err != nil || r.conf.Empty() {
		return nil
	}
	return SnapshotOf(storage.Position{Index: index, Term: term}, *r.conf)
}

// SnapshotOf returns what raft is told of a state that is applied to p under c.
func SnapshotOf(p storage.Position, c Conf) *pb.Snapshot {
	return &pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: &p.Index, Term: &p.Term, ConfState: c.State()}}
}

// InstallOf returns what a snapshot's message is to install.
func InstallOf(s *pb.Snapshot) Install {
	m := s.GetMetadata()
	return Install{
		To:   storage.Position{Index: m.GetIndex(), Term: m.GetTerm()},
		Conf: fromConfState(m.GetConfState()),
	}
}
