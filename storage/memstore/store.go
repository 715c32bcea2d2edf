// Package memstore is a storage.KV in memory that knows what is durable and what is not, for
// tests and for the simulator. It has no goroutine, clock or randomness: what a crash leaves
// follows from its seed.
//
// As with Pebble, a crash keeps all that was synced, and of what came later some number of
// whole batches in the order of their commits: never a part of a batch, never a later one
// without an earlier one. (That torn and reordered blocks in files come to no more than that
// is tested where there are files, on vfs.NewCrashableMem in package storage.)
package memstore

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"

	"github.com/waystation/waystation/storage"
)

// Store is a storage.KV. A Store that crashed or was closed answers storage.ErrClosed.
type Store struct {
	mu     sync.Mutex
	root   *node
	synced *node
	// pending are the roots after each commit that is not durable, in order.
	pending []*node
	stages  map[storage.GroupID]*stage
	fault   error
	failing error
	closed  bool
}

// New returns an empty store.
func New() *Store { return &Store{stages: map[storage.GroupID]*stage{}} }

// Crash ends this store as a loss of power does, and returns what is left: what was synced,
// as many later commits as the seed says, and the sealed stages. It may follow a Close, which promises no more.
func (s *Store) Crash(seed uint64) *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	left := s.synced
	r := rand.New(rand.NewPCG(seed, 0))
	if n := r.IntN(len(s.pending) + 1); n > 0 {
		left = s.pending[n-1]
	}
	after := New()
	after.root, after.synced = left, left
	s.crashed(after)
	return after
}

// FailSync makes the next sync or flush fail for good, with err as its cause.
func (s *Store) FailSync(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = err
}

// Damage makes every later read of a key end in a *storage.CorruptError, as a flipped bit on
// the disk does. It reports whether the key is there.
func (s *Store) Damage(key []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := seek(s.root, key)
	if n == nil || string(n.key) != string(key) {
		return false
	}
	// The disk is damaged, not the write: what is durable and what is pending suffers alike.
	hurt := func(root *node) *node {
		n := seek(root, key)
		if n == nil || string(n.key) != string(key) {
			return root
		}
		c := *n
		c.damaged, c.left, c.right = true, nil, nil
		return set(root, &c)
	}
	s.root, s.synced = hurt(s.root), hurt(s.synced)
	for i := range s.pending {
		s.pending[i] = hurt(s.pending[i])
	}
	return true
}

// Damaged says whether a key that Damage was called for is still there, in what can be read or
// in what a crash would leave.
func (s *Store) Damaged(key []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, root := range append([]*node{s.root, s.synced}, s.pending...) {
		if n := seek(root, key); n != nil && n.damaged && string(n.key) == string(key) {
			return true
		}
	}
	return false
}

// Get implements storage.KVReader.
func (s *Store) Get(key []byte) ([]byte, io.Closer, error) {
	root, err := s.current()
	if err != nil {
		return nil, nil, err
	}
	return view{root}.Get(key)
}

// Iter implements storage.KVReader.
func (s *Store) Iter(lower, upper []byte) (storage.KVIter, error) {
	root, err := s.current()
	if err != nil {
		return nil, err
	}
	return view{root}.Iter(lower, upper)
}

func (s *Store) current() (*node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, storage.ErrClosed
	}
	return s.root, s.fault
}

// Snapshot implements storage.KV.
func (s *Store) Snapshot() storage.KVSnapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return view{s.root}
}

// SnapshotRange implements storage.KV.
func (s *Store) SnapshotRange(lower, upper []byte) storage.KVSnapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return rangeView{view{s.root}, bytes.Clone(lower), bytes.Clone(upper)}
}

// Durable implements storage.KV.
func (s *Store) Durable() (storage.KVSnapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, storage.ErrClosed
	}
	return view{s.synced}, s.fault
}

// Flush implements storage.KV.
func (s *Store) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.syncLocked()
}

// syncLocked makes all commits durable, or fails for good.
func (s *Store) syncLocked() error {
	if s.closed {
		return storage.ErrClosed
	}
	if err := s.failLocked(); err != nil {
		return err
	}
	s.synced, s.pending = s.root, nil
	return nil
}

// failLocked returns the fault that there is, or that FailSync wants now.
func (s *Store) failLocked() error {
	if s.fault == nil && s.failing != nil {
		s.fault = fmt.Errorf("%w: memory: %w", storage.ErrSync, s.failing)
	}
	return s.fault
}

// DiskBytes implements storage.KV: there is no disk.
func (s *Store) DiskBytes() int64 { return 0 }

// Fault implements storage.KV.
func (s *Store) Fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

// Close implements storage.KV. What the store holds is as durable afterwards as it was before.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return storage.ErrClosed
	}
	s.closed = true
	return nil
}
