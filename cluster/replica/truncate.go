package replica

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"github.com/waystation/waystation/internal/invariant"
	"github.com/waystation/waystation/storage"
)

// Truncate cuts the log off up to at most upTo, and returns what is to be
// written, or false if nothing can go. The caller vouches that the state up to
// upTo is durable. What another replica still lacks is kept, except at or below
// floor: who lacks that gets a snapshot.
func (r *Replica) Truncate(upTo, floor uint64) (TruncateJob, bool, error) {
	r.vouched = max(r.vouched, upTo)
	upTo = min(r.vouched, r.rn.BasicStatus().Applied, r.log.written, max(r.bound(), floor))
	if upTo <= r.log.truncated.Index {
		return TruncateJob{}, false, nil
	}
	term, err := r.log.Term(upTo)
	if err != nil {
		return TruncateJob{}, false, fmt.Errorf("truncate log to %d: %w", upTo, err)
	}
	// The bound moves before the log does: who reads below it from now on is
	// told ErrCompacted, however far the writing has come.
	to := storage.Position{Index: upTo, Term: term}
	if !invariant.Broken(invariant.Unavailable) {
		r.log.truncated = to
	}
	return TruncateJob{To: to}, true, nil
}

// bound is the highest index that no other replica needs, as far as this one
// knows. A leader tells its own to the followers: they cannot know it.
func (r *Replica) bound() uint64 {
	if r.Alone() {
		return r.log.written
	}
	if r.rn.BasicStatus().RaftState != raft.StateLeader {
		return r.told
	}
	bound := r.log.written
	r.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if id != uint64(r.cfg.ID) {
			bound = min(bound, r.needs(&pr))
		}
	})
	return max(bound, r.log.truncated.Index)
}

// needs is the index behind which a replica needs the log.
func (r *Replica) needs(pr *tracker.Progress) uint64 {
	first := r.log.truncated.Index
	switch {
	case pr.State == tracker.StateSnapshot:
		// What is on its way to it is no older than this.
		return pr.PendingSnapshot
	case pr.Match == 0:
		// Nothing was heard of it in this term: it may need everything.
		return first
	case pr.Match < first && pr.Next <= first+1:
		// It waits for a snapshot, which will be newer than all that can be cut.
		return r.log.written
	case pr.Match < first:
		// It has just had one.
		return pr.Next - 1
	}
	return pr.Match
}
