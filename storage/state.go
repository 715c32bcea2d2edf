package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// Reader reads a state, or a snapshot of one.
type Reader interface {
	// Get returns a copy of the value, which belongs to the caller, or ErrNotFound.
	Get(key []byte) ([]byte, error)
	// Scan visits the keys in [lower, upper) in order until visit returns false; a nil bound
	// is open. Key and value are valid during the visit only. The scan sees the map as it was
	// at the call. No lock is held during a visit.
	Scan(lower, upper []byte, visit func(key, value []byte) bool) error
}

// State holds what Apply computed, for all partitions. It is a Reader of its newest content.
// A commit is not durable by itself: after a crash the state is as some earlier commit left
// it, never less than the last Flush, never a part of a batch, never a later batch without an
// earlier one. That is promised for each family of keys by itself, those that share their first
// two bytes: of two families, one may be of a later time than the other. A batch that has keys of
// several keeps its place among all. All methods may be called at the same time, but one
// goroutine at a time writes to a family.
type State struct {
	reader
	kv      KV
	log     *slog.Logger
	buffers buffers
	batches freeList[StateBatch] // one is filled for each entry
	pace    *gentle
}

// NewState opens the state that a KV holds. The State owns the KV from then on.
func NewState(kv KV, logger *slog.Logger) *State {
	return &State{reader: reader{r: kv, kv: kv}, kv: kv, log: logger, pace: &gentle{}}
}

// NewBatch returns an empty batch. It must end in Commit or Discard.
func (s *State) NewBatch() *StateBatch { return s.NewBatchSize(0) }

// NewBatchSize returns an empty batch with room for size bytes, for what is known to be large.
func (s *State) NewBatchSize(size int) *StateBatch {
	b := s.batches.get()
	if b == nil {
		b = &StateBatch{}
	}
	b.state, b.bytes = s, slices.Grow(b.bytes, size)
	return b
}

// Snapshot returns the state as it is now. It must be closed: while it lives, nothing that it
// shows is freed on disk, and each compaction keeps what it shows beside what is new. It shows
// nothing of a range that Install replaces meanwhile. For long reads there is SnapshotRange.
func (s *State) Snapshot() *StateSnapshot {
	s.settle(nil, nil)
	snap := s.kv.Snapshot()
	return &StateSnapshot{reader: reader{r: snap, kv: s.kv}, close: snap.Close}
}

// SnapshotRange returns the keys in [lower, upper) as they are now, for a long read: a snapshot
// for a peer, a backup. It must be closed; it holds up neither flushes nor compactions, and
// stays as it is when a range is replaced by Install. A read outside of the range is ErrRange;
// an open bound is the range's own.
func (s *State) SnapshotRange(lower, upper []byte) *StateSnapshot {
	s.settle(lower, upper)
	snap := s.kv.SnapshotRange(lower, upper)
	return &StateSnapshot{reader: reader{r: snap, kv: s.kv}, close: snap.Close}
}

// Durable returns what a crash at this moment would leave for certain, and what to call when
// done with it. An error in opening it is returned by every read.
func (s *State) Durable() (Reader, func()) {
	snap, err := s.kv.Durable()
	if err != nil {
		return failedReader{fmt.Errorf("read durable state: %w", err)}, func() {}
	}
	return &reader{r: snap, kv: s.kv}, func() { _ = snap.Close() } // read-only: nothing to lose
}

// Flush makes all that was committed before the call durable, and blocks until it is. An
// error is ErrSync and final.
func (s *State) Flush() error {
	var err error
	for _, b := range s.buffers.between(nil, nil) {
		if err = s.drainOne(b); err != nil {
			break
		}
		s.pace.pause()
	}
	if err == nil {
		err = s.kv.Flush()
	}
	if err != nil {
		return fmt.Errorf("flush state: %w", err)
	}
	return nil
}

// DiskBytes returns the space that the state takes on disk.
func (s *State) DiskBytes() int64 { return s.kv.DiskBytes() }

// Fault returns the first failure after which nothing is certain any more, or nil.
func (s *State) Fault() error { return s.kv.Fault() }

// Close closes the store. Nothing may be in use any more. A second call does nothing.
func (s *State) Close() error {
	if err := s.kv.Close(); err != nil && !errors.Is(err, ErrClosed) {
		return fmt.Errorf("close state: %w", err)
	}
	return nil
}

// StateSnapshot is a Reader of one moment.
type StateSnapshot struct {
	reader
	close func() error
}

// Close frees the snapshot.
func (s *StateSnapshot) Close() error { return s.close() }
