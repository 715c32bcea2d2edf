package storage

import "io"

// KV is an ordered map of bytes with atomic batches: all that Log and State need of what
// lies beneath. Keys are ordered bytewise. All methods but Close may be called at the same
// time. storagetest states the behaviour through Log and State.
type KV interface {
	LogKV
	KVStager
	// Snapshot returns the state as it is now; it must be closed.
	Snapshot() KVSnapshot
	// SnapshotRange is Snapshot for the keys in [lower, upper) alone. However long it lives, it
	// holds up neither flushes nor compactions, and it stays as it is while ranges, its own
	// too, are replaced. A read outside of its range is ErrRange.
	SnapshotRange(lower, upper []byte) KVSnapshot
	// Durable returns what a crash at this moment would leave for certain. It must be closed.
	// For a store with a synced log that may be less than what was committed with sync: only
	// the reverse is promised.
	Durable() (KVSnapshot, error)
	// Flush makes everything committed before the call durable, and blocks until it is.
	Flush() error
}

// LogKV is the part of KV that a Log needs. The log keeps to more than KV asks for: an entry's
// chunks are written in order and never again, a group's entries are without a gap, what is deleted
// of them is their beginning or their end. A cursor over entries may therefore look each up as it
// comes to it.
type LogKV interface {
	KVReader
	// NewBatch returns an empty batch with room for size bytes.
	NewBatch(size int) KVBatch
	// DiskBytes is the space that the store takes.
	DiskBytes() int64
	// Fault is the first failed write or sync, or damage found in the background; nil as long
	// as all is well. It never becomes nil again, and commits and flushes fail from then on.
	Fault() error
	// Close frees the store. It makes nothing durable that was not.
	Close() error
}

// KVStager replaces a range of the map at once by what was gathered beside it. A group has at
// most one stage. One goroutine at a time for each group; groups are independent.
type KVStager interface {
	// NewStage drops whatever is staged for the group and returns an empty stage.
	NewStage(g GroupID) (KVStage, error)
	// Staged tells whether a sealed stage of the group waits to be installed.
	Staged(g GroupID) bool
	// DropStage drops what is staged for the group, sealed or not, for good.
	DropStage(g GroupID) error
	// Install replaces the keys in [lower, upper) by the group's sealed stage, all of whose
	// keys must lie within, as one step, and drops the stage. It returns once that is durable;
	// a crash before leaves either all or nothing of it, and no stage to rely on. Nobody may
	// write to the range meanwhile. Without a sealed stage: ErrNotFound.
	Install(g GroupID, lower, upper []byte) error
}

// KVStage gathers records in ascending order, which its caller sees to. It is no part of the
// map, and until it is sealed a crash leaves nothing of it. A stage that another one has taken
// the place of, or that was dropped, answers ErrClosed.
type KVStage interface {
	// Add copies key and value.
	Add(key, value []byte) error
	// Seal makes the stage durable; nothing can be added any more.
	Seal() error
	// Discard drops the stage.
	Discard() error
}

// KVReader reads the map. Damage that a read meets is a *CorruptError.
type KVReader interface {
	// Get returns the value without a copy: it is valid until the closer is closed, and must
	// not be modified. Without such a key: ErrNotFound and no closer.
	Get(key []byte) ([]byte, io.Closer, error)
	// Iter walks the keys in [lower, upper); a nil bound is open. It sees the map as it was at
	// the call, and must be closed.
	Iter(lower, upper []byte) (KVIter, error)
}

// KVIter is a cursor; one goroutine at a time. Key and value are valid until the next move.
// A move that returns false has reached the end or failed: Error tells.
type KVIter interface {
	First() bool
	Last() bool
	Next() bool
	SeekGE(key []byte) bool
	Key() []byte
	ValueAndErr() ([]byte, error)
	Error() error
	Close() error
}

// KVSnapshot is a KVReader that stays as it is.
type KVSnapshot interface {
	KVReader
	Close() error
}

// KVBatch gathers writes; later ones win over earlier ones. One goroutine at a time.
type KVBatch interface {
	// Set reserves room for one record and returns where key and value must be written,
	// before the next call on the batch. No copy but this one is made.
	Set(keyLen, valueLen int) (key, value []byte)
	Delete(key []byte)
	// DeleteRange deletes the keys in [lower, upper).
	DeleteRange(lower, upper []byte)
	// Len is the size in bytes of what was gathered.
	Len() int
	// Commit applies the batch at once and gives it back: it must not be used any more.
	// With sync it blocks until the batch and all commits before it are durable. An empty
	// batch does nothing, and syncs nothing. A failure is ErrSync and final.
	Commit(sync bool) error
	// Discard gives the batch back uncommitted.
	Discard()
}
