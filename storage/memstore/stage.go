package memstore

import (
	"bytes"
	"fmt"

	"github.com/waystation/waystation/storage"
)

// stage gathers records beside the map. Unsealed it is volatile: a crash leaves nothing of it.
type stage struct {
	store  *Store
	group  storage.GroupID
	root   *node
	sealed bool // durable, and closed to what could be added
}

// NewStage implements storage.KVStager.
func (s *Store) NewStage(g storage.GroupID) (storage.KVStage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return nil, err
	}
	t := &stage{store: s, group: g}
	s.stages[g] = t
	return t, nil
}

func (s *Store) usable() error {
	if s.closed {
		return storage.ErrClosed
	}
	return s.fault
}

func (t *stage) usable() error {
	if err := t.store.usable(); err != nil {
		return err
	}
	if t.store.stages[t.group] != t {
		return storage.ErrClosed
	}
	return nil
}

func (t *stage) Add(key, value []byte) error {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	if err := t.usable(); err != nil {
		return err
	}
	if t.sealed {
		return storage.ErrClosed
	}
	t.root = set(t.root, &node{key: bytes.Clone(key), value: append([]byte{}, value...), priority: priority(key)})
	return nil
}

func (t *stage) Seal() error {
	s := t.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := t.usable(); err != nil {
		return err
	}
	if t.sealed {
		return storage.ErrClosed
	}
	if err := s.failLocked(); err != nil {
		return err
	}
	t.sealed = true
	return nil
}

func (t *stage) Discard() error {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	if err := t.usable(); err != nil {
		return err
	}
	delete(t.store.stages, t.group)
	return nil
}

// Staged implements storage.KVStager.
func (s *Store) Staged(g storage.GroupID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stages[g] != nil && s.stages[g].sealed
}

// DropStage implements storage.KVStager.
func (s *Store) DropStage(g storage.GroupID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	delete(s.stages, g)
	return nil
}

// Install implements storage.KVStager. One that FailSync makes fail may or may not have
// happened, as the seed of the crash says.
func (s *Store) Install(g storage.GroupID, lower, upper []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	t := s.stages[g]
	if t == nil || !t.sealed {
		return fmt.Errorf("no sealed stage: %w", storage.ErrNotFound)
	}
	first, last := seek(t.root, nil), before(t.root, nil)
	if first != nil && (bytes.Compare(first.key, lower) < 0 || bytes.Compare(last.key, upper) >= 0) {
		return fmt.Errorf("staged keys %x to %x: %w", first.key, last.key, storage.ErrRange)
	}
	below, rest := split(s.root, lower)
	_, above := split(rest, upper)
	s.root = join(join(below, t.root), above)
	s.pending = append(s.pending, s.root)
	if err := s.syncLocked(); err != nil {
		return err
	}
	delete(s.stages, g)
	return nil
}

// crashed are the stages that a loss of power leaves.
func (s *Store) crashed(into *Store) {
	for g, t := range s.stages {
		if t.sealed {
			into.stages[g] = &stage{store: into, group: g, root: t.root, sealed: true}
		}
	}
}
