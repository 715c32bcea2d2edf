package storage

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound answers a read of a key that is not there.
	ErrNotFound = errors.New("not found")
	// ErrCompacted answers a read of an entry that was truncated away. Its payload, if
	// anything still refers to it, is in the spill.
	ErrCompacted = errors.New("entry compacted")
	// ErrUnavailable answers a read of an entry that is not in the log yet.
	ErrUnavailable = errors.New("entry unavailable")
	// ErrRange answers a read beyond the end of an entry, or outside of a snapshot's range.
	ErrRange = errors.New("out of range")
	// ErrGap refuses an append that does not follow the group's last entry.
	ErrGap = errors.New("append leaves a gap")
	// ErrOrder refuses a key that does not ascend.
	ErrOrder = errors.New("key out of order")
	// ErrSync means that a write or a sync failed. What is on disk is unknown: the
	// process must end, and the call must not be repeated.
	ErrSync = errors.New("write not durable")
	// ErrCorrupt marks every CorruptError, for errors.Is.
	ErrCorrupt = errors.New("record damaged")
	// ErrFormat means that a folder has a format which this program does not know.
	ErrFormat = errors.New("unknown storage format")
	// ErrLocked means that another process owns the data folder.
	ErrLocked = errors.New("data folder in use")
	// ErrClosed answers every call after Close.
	ErrClosed = errors.New("store closed")
)

// CorruptError names a record whose bytes cannot be trusted. It is never served and never
// skipped: the replica that holds it must stop and say so.
type CorruptError struct {
	Store string // "log" or "state"
	Key   []byte
	What  string // the key in words, if the store knows it: "group 3 index 17 chunk 2"
	Err   error  // what is wrong with it
}

// Error names the store, the record and what is wrong.
func (e *CorruptError) Error() string {
	if len(e.Key) == 0 {
		return fmt.Sprintf("read %s %s: record damaged: %v", e.Store, e.What, e.Err)
	}
	if e.What == "" {
		return fmt.Sprintf("read %s key %x: record damaged: %v", e.Store, e.Key, e.Err)
	}
	return fmt.Sprintf("read %s %s (key %x): record damaged: %v", e.Store, e.What, e.Key, e.Err)
}

// Unwrap lets errors.Is find ErrCorrupt and the cause.
func (e *CorruptError) Unwrap() []error { return []error{ErrCorrupt, e.Err} }
