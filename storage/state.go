package storage

import (
	"errors"
	"fmt"
	"log/slog"
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
// earlier one. All methods may be called at the same time.
type State struct {
	reader
	kv  KV
	log *slog.Logger
}

// NewState opens the state that a KV holds. The State owns the KV from then on.
func NewState(kv KV, logger *slog.Logger) *State {
	return &State{reader: reader{r: kv, kv: kv}, kv: kv, log: logger}
}

// NewBatch returns an empty batch. It must end in Commit or Discard.
func (s *State) NewBatch() *StateBatch { return s.NewBatchSize(0) }

// NewBatchSize returns an empty batch with room for size bytes, for what is known to be large.
func (s *State) NewBatchSize(size int) *StateBatch { return &StateBatch{kv: s.kv.NewBatch(size)} }

// Snapshot returns the state as it is now. It must be closed: while it lives, nothing that it
// shows is freed on disk, and each compaction keeps what it shows beside what is new. It shows
// nothing of a range that Install replaces meanwhile. For long reads there is SnapshotRange.
func (s *State) Snapshot() *StateSnapshot {
	snap := s.kv.Snapshot()
	return &StateSnapshot{reader: reader{r: snap, kv: s.kv}, close: snap.Close}
}

// SnapshotRange returns the keys in [lower, upper) as they are now, for a long read: a snapshot
// for a peer, a backup. It must be closed; it holds up neither flushes nor compactions, and
// stays as it is when a range is replaced by Install. A read outside of the range is ErrRange;
// an open bound is the range's own.
func (s *State) SnapshotRange(lower, upper []byte) *StateSnapshot {
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
	if err := s.kv.Flush(); err != nil {
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

// StateBatch gathers writes that become visible as one. One goroutine at a time.
type StateBatch struct {
	kv KVBatch
}

// Set copies key and value.
func (b *StateBatch) Set(key, value []byte) {
	k, v := b.kv.Set(len(key), len(value))
	copy(k, key)
	copy(v, value)
}

// SetDeferred reserves room for a record, and returns where key and value must be written
// before the next call: it spares a copy.
func (b *StateBatch) SetDeferred(keyLen, valueLen int) (key, value []byte) {
	return b.kv.Set(keyLen, valueLen)
}

// Delete deletes one key.
func (b *StateBatch) Delete(key []byte) { b.kv.Delete(key) }

// DeleteRange deletes the keys in [lower, upper).
func (b *StateBatch) DeleteRange(lower, upper []byte) { b.kv.DeleteRange(lower, upper) }

// Len is the size of the batch in bytes.
func (b *StateBatch) Len() int { return b.kv.Len() }

// Commit applies the batch; it must not be used afterwards. An error is ErrSync and final.
func (b *StateBatch) Commit() error {
	if err := b.kv.Commit(false); err != nil {
		return fmt.Errorf("commit state batch: %w", err)
	}
	return nil
}

// Discard gives the batch back uncommitted.
func (b *StateBatch) Discard() { b.kv.Discard() }
