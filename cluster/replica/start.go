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
	// Applied is the index that the state has applied; 0 if there is none. Conf
	// is the configuration that it holds, as Conf.Marshal wrote it; nothing if
	// it never changed.
	Applied uint64
	Conf    []byte
	// Install is the marker of a snapshot whose installation did not come to its
	// end; zero if there is none.
	Install storage.Position
	// Join says that this replica is new in a group that exists: it begins with
	// nothing and waits for its leader. It means nothing once it is recorded.
	Join bool
}

// Start is a replica's state when it begins to run.
type Start struct {
	// Fresh says that the creation record and HardState must be written and
	// synced before the replica runs. What a replica with a tombstone left must
	// be deleted before that.
	Fresh bool
	// Redo says that a snapshot was installed in the state, but not in the log:
	// its last step (InstallLog), with Truncated and HardState, must be done
	// again before the replica runs.
	Redo bool
	// Drop says that a snapshot was not installed: its marker must be removed.
	// Whatever is staged goes in any case.
	Drop      bool
	Truncated storage.Position
	HardState storage.HardState
	Last      storage.Position
	Applied   uint64
	Conf      Conf
}

// Reconcile decides whether replica id may run from what was found, and from
// where. A log and a state that do not fit together end in ErrQuarantined:
// running on would forget votes or acknowledged entries.
func Reconcile(id storage.ReplicaID, f Found) (Start, error) {
	if f.Recorded && f.Tombstone {
		if !f.Join || id <= f.Replica {
			return Start{}, fmt.Errorf("start replica %d: %w", id, ErrTombstone)
		}
		// Another one was here. What it left goes before this one is recorded.
		f = Found{Join: true}
	}
	if !f.Recorded {
		return create(id, f)
	}
	if id < f.Replica {
		// Ids grow: whoever asks goes by a map that is older than this disk. To take
		// the replica that is here for damaged would end in its deletion.
		return Start{}, fmt.Errorf("start replica %d: replica %d has followed it: %w", id, f.Replica, ErrTombstone)
	}
	if f.Replica != id {
		return Start{}, fmt.Errorf("start replica %d: the log belongs to replica %d: %w", id, f.Replica, ErrQuarantined)
	}
	s := Start{Drop: f.Install.Index != 0}
	if s.Drop && f.Applied >= f.Install.Index {
		s.Redo, s.Drop = true, false
		f = redone(f)
	}
	applied := f.Applied
	if applied == 0 && f.Truncated == InitialPosition() {
		applied = f.Truncated.Index
	}
	conf, err := ParseConf(f.Conf)
	if err != nil {
		return Start{}, fmt.Errorf("start replica %d: %w: %w", id, err, ErrQuarantined)
	}
	if len(f.Conf) == 0 && f.Truncated.Index != 0 {
		conf = SoleVoter(id) // a group that was made here and never changed
	}
	if why := gap(f, applied); why != "" {
		if invariant.Broken(invariant.Reset) {
			s = reset(f, applied)
			s.Conf = conf
			return s, nil
		}
		return Start{}, fmt.Errorf("start replica %d: %s: %w", id, why, ErrQuarantined)
	}
	s.Truncated, s.HardState, s.Last, s.Applied, s.Conf = f.Truncated, f.HardState, f.Last, applied, conf
	// The commit index is written lazily, the state's applied index is not:
	// raft panics if it finds more applied than committed.
	if !invariant.Broken(invariant.CommitBehind) {
		s.HardState.Commit = max(s.HardState.Commit, applied)
	}
	return s, nil
}

// redone is what is found once the log is reset to the snapshot. No promise of
// the term in which the snapshot came was ever made if its hard state was not
// written: the last step comes before the answer.
func redone(f Found) Found {
	f.Truncated, f.Last = f.Install, f.Install
	f.HardState.Commit = f.Install.Index
	if f.HardState.Term < f.Install.Term {
		f.HardState.Term, f.HardState.Vote = f.Install.Term, 0
	}
	return f
}

func create(id storage.ReplicaID, f Found) (Start, error) {
	if f.Applied != 0 || f.HardState != (storage.HardState{}) || f.Last.Index != 0 {
		return Start{}, fmt.Errorf("start replica: state applied to %d, last entry %d, but no creation record: %w",
			f.Applied, f.Last.Index, ErrQuarantined)
	}
	if f.Join {
		return Start{Fresh: true}, nil
	}
	p := InitialPosition()
	return Start{
		Fresh: true, Truncated: p, Last: p, Applied: p.Index, Conf: SoleVoter(id),
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
