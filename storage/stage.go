package storage

import (
	"bytes"
	"fmt"
)

// Stage gathers a group's records beside the state, until State.Install puts them in the place
// of what the group had. Installing a snapshot is a sequence, of which each step must be
// durable before the next one (a crash between any two is told apart at the next start):
//
//  1. NewStage, Add, Seal: until now nothing has changed.
//  2. LogBatch.PutInstall, committed with sync.
//  3. State.Install, with the group's apply stopped.
//  4. LogBatch.Reset, committed with sync.
//
// At start, for each of Log.Installs: if the state's applied index is at or above the marker's,
// step 4 is done again; if not, LogBatch.DropInstall. Then State.DropStage, either way.
//
// One goroutine at a time.
type Stage struct {
	kv    KVStage
	last  []byte
	keys  uint64
	bytes uint64
}

// NewStage returns an empty stage of a group; whatever was staged for the group before goes.
// It must end in Discard, or in Seal and then Install or DropStage. Once sealed it survives a
// restart; before, it doesn't.
func (s *State) NewStage(g GroupID) (*Stage, error) {
	kv, err := s.kv.NewStage(g)
	if err != nil {
		return nil, fmt.Errorf("stage group %d: %w", g, err)
	}
	return &Stage{kv: kv}, nil
}

// Add copies a record into the stage. Keys must ascend, or the error is ErrOrder. It may write
// to disk, and blocks while it does.
func (t *Stage) Add(key, value []byte) error {
	if t.keys > 0 && bytes.Compare(key, t.last) <= 0 {
		return fmt.Errorf("stage key %x behind %x: %w", key, t.last, ErrOrder)
	}
	if err := t.kv.Add(key, value); err != nil {
		return fmt.Errorf("stage key %x: %w", key, err)
	}
	t.last = append(t.last[:0], key...)
	t.keys++
	t.bytes += uint64(len(key) + len(value))
	return nil
}

// Keys is the number of records that were added.
func (t *Stage) Keys() uint64 { return t.keys }

// Bytes is the length of all keys and values that were added.
func (t *Stage) Bytes() uint64 { return t.bytes }

// Seal makes the stage durable, and blocks until it is. Nothing can be added any more.
func (t *Stage) Seal() error {
	if err := t.kv.Seal(); err != nil {
		return fmt.Errorf("seal stage: %w", err)
	}
	return nil
}

// Discard drops the stage, sealed or not. One that is no longer its group's is ErrClosed.
func (t *Stage) Discard() error {
	if err := t.kv.Discard(); err != nil {
		return fmt.Errorf("discard stage: %w", err)
	}
	return nil
}

// Install replaces all keys in [lower, upper) by the group's sealed stage, at once, and drops
// the stage. It returns when that is durable, and blocks until it is. Nobody may write to the
// range meanwhile; reads and writes elsewhere go on. A crash leaves the range as it was or as it
// will be, never a mixture. ErrNotFound: nothing sealed is staged. ErrRange: the stage has keys
// outside of the range. ErrCorrupt: the state is damaged where it would be cut; it is as it was.
func (s *State) Install(g GroupID, lower, upper []byte) error {
	err := s.drain(lower, upper)
	if err == nil {
		err = s.kv.Install(g, lower, upper)
	}
	if err != nil {
		return fmt.Errorf("install stage of group %d: %w", g, err)
	}
	return nil
}

// Staged tells whether a sealed stage of the group is there, from this run or an earlier one.
func (s *State) Staged(g GroupID) bool { return s.kv.Staged(g) }

// DropStage drops what is staged for a group, sealed or not; without anything it does nothing.
func (s *State) DropStage(g GroupID) error {
	if err := s.kv.DropStage(g); err != nil {
		return fmt.Errorf("drop stage of group %d: %w", g, err)
	}
	return nil
}
