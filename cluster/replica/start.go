package replica

import (
	"fmt"

	"github.com/waystation/waystation/internal/invariant"
	"github.com/waystation/waystation/storage"
)

// InitialPosition returns where the log of a new group begins: nothing at or
// below it ever existed. It is not zero, so that a replica without any log,
// which begins at zero, is never taken for a member that has all of it.
func InitialPosition() storage.Position { return storage.Position{Index: 5, Term: 5} }

// Found is what a start finds on disk of one replica.
type Found struct {
	// Recorded says that a creation record exists; Replica, Tombstone and
	// Truncated are then what it says.
	Recorded  bool
	Replica   storage.ReplicaID
	Tombstone bool
	Truncated storage.Position
	// HardState is what was last written; zero if nothing was.
	HardState storage.HardState
	// Last is the last entry in the log; Truncated if there is none.
	Last storage.Position
	// Applied is the index that the state has applied; 0 if there is none.
	Applied uint64
}

// Start is a replica's state when it begins to run.
type Start struct {
	// Fresh says that the creation record and HardState must be written and
	// synced before the replica runs.
	Fresh     bool
	Truncated storage.Position
	HardState storage.HardState
	Last      storage.Position
	Applied   uint64
}

// Reconcile decides whether replica id may run from what was found, and from
// where. A log and a state that do not fit together end in ErrQuarantined:
// running on would forget votes or acknowledged entries.
func Reconcile(id storage.ReplicaID, f Found) (Start, error) {
	if !f.Recorded {
		return create(f)
	}
	if f.Tombstone {
		return Start{}, fmt.Errorf("start replica %d: %w", id, ErrTombstone)
	}
	if f.Replica != id {
		return Start{}, fmt.Errorf("start replica %d: the log belongs to replica %d: %w", id, f.Replica, ErrQuarantined)
	}
	applied := f.Applied
	if applied == 0 && f.Truncated == InitialPosition() {
		applied = f.Truncated.Index
	}
	if why := gap(f, applied); why != "" {
		if invariant.Broken(invariant.Reset) {
			return reset(f, applied), nil
		}
		return Start{}, fmt.Errorf("start replica %d: %s: %w", id, why, ErrQuarantined)
	}
	hs := f.HardState
	// The commit index is written lazily, the state's applied index is not:
	// raft panics if it finds more applied than committed.
	if !invariant.Broken(invariant.CommitBehind) {
		hs.Commit = max(hs.Commit, applied)
	}
	return Start{Truncated: f.Truncated, HardState: hs, Last: f.Last, Applied: applied}, nil
}

func create(f Found) (Start, error) {
	if f.Applied != 0 || f.HardState != (storage.HardState{}) || f.Last.Index != 0 {
		return Start{}, fmt.Errorf("start replica: state applied to %d, last entry %d, but no creation record: %w",
			f.Applied, f.Last.Index, ErrQuarantined)
	}
	p := InitialPosition()
	return Start{
		Fresh: true, Truncated: p, Last: p, Applied: p.Index,
		HardState: storage.HardState{Term: p.Term, Commit: p.Index},
	}, nil
}

// gap says what is missing between the log and the state, or "".
func gap(f Found, applied uint64) string {
	switch {
	case f.Last.Index < f.Truncated.Index:
		return fmt.Sprintf("the log ends at %d, before it begins at %d", f.Last.Index, f.Truncated.Index+1)
	case applied < f.Truncated.Index:
		return fmt.Sprintf("the state is applied to %d, but the log begins at %d", applied, f.Truncated.Index+1)
	case applied > f.Last.Index:
		return fmt.Sprintf("the state is applied to %d, but the log ends at %d", applied, f.Last.Index)
	case f.HardState.Commit > f.Last.Index:
		return fmt.Sprintf("entries to %d were committed, but the log ends at %d", f.HardState.Commit, f.Last.Index)
	case f.HardState.Term < f.Last.Term:
		return fmt.Sprintf("the recorded term %d is behind the last entry's term %d", f.HardState.Term, f.Last.Term)
	}
	return ""
}
