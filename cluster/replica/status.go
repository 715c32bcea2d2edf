package replica

import (
	"cmp"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"github.com/waystation/waystation/storage"
)

// Status is a view of a replica.
type Status struct {
	Change
	Commit, Applied uint64
	// First and Last bound the log; it is empty when First is Last+1.
	First, Last uint64
	// Conf is the configuration that raft runs under, shared: it must not be
	// changed. Alone and SoleVoter are what it says of this replica.
	Conf             *Conf
	Alone, SoleVoter bool
	// Opened says that this replica leads and has applied the first entry of its
	// term: Conf has in it all that earlier leaders changed. If the last change took
	// a vote away, enough of the voters know of it for those who went to be deleted.
	Opened bool
}

// Progress is what a leader knows of another replica.
type Progress struct {
	Replica storage.ReplicaID
	// Match is the last index that the replica is known to have on disk.
	Match uint64
	// Learner says that it does not vote.
	Learner bool
	// Active says that it was heard of within an election timeout.
	Active bool
	// Snapshot says that it is being sent a snapshot, or waits for one.
	Snapshot bool
}

// Status returns the replica's state as it last came out of Ready.
func (r *Replica) Status() Status {
	applied := r.rn.BasicStatus().Applied
	return Status{
		Change: r.change, Commit: r.hard.Commit, Applied: applied,
		First: r.log.truncated.Index + 1, Last: r.log.written,
		Conf: r.conf, Alone: r.Alone(), SoleVoter: r.SoleVoter(),
		Opened: r.change.Leads && r.termStart != 0 && applied >= r.termStart && r.anchored(),
	}
}

// Progress returns what this replica, if it leads, knows of the others, in the
// order of their ids; nil if it does not lead.
//
// Who is active is counted here and not taken from raft, which forgets it at
// each of its own checks: a look at the same time would find nobody.
func (r *Replica) Progress() []Progress {
	if r.rn.BasicStatus().RaftState != raft.StateLeader {
		return nil
	}
	var out []Progress
	r.rn.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		if id == uint64(r.cfg.ID) {
			return
		}
		at, heard := r.heard[id]
		out = append(out, Progress{
			Replica: storage.ReplicaID(id), Match: pr.Match, Learner: typ == raft.ProgressTypeLearner,
			Active:   heard && r.ticks-at <= uint64(r.cfg.ElectionTicks),
			Snapshot: pr.State == tracker.StateSnapshot || pr.Match < r.log.truncated.Index,
		})
	})
	slices.SortFunc(out, func(a, b Progress) int { return cmp.Compare(a.Replica, b.Replica) })
	return out
}

// Successor is the voter that could take the leadership over soonest: one that
// is active and has the most of the log. It is 0 if there is none.
func (r *Replica) Successor() (id storage.ReplicaID) {
	var match uint64
	for _, p := range r.Progress() {
		if p.Active && !p.Learner && r.conf.Votes(p.Replica) && p.Match > match {
			id, match = p.Replica, p.Match
		}
	}
	return id
}
