package actors

import (
	"errors"
	"fmt"
	"sync"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/storage"
)

// applied is what Apply hands to whoever proposed the entry.
type applied struct {
	effects repository.Effects
}

// pool is a small free list of what is big and comes one or two at a time. What
// nobody gives back is collected.
type pool[T any] struct {
	mu   sync.Mutex
	free []*T
}

func (p *pool[T]) get() *T {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		v := p.free[n-1]
		p.free = p.free[:n-1]
		return v
	}
	return new(T)
}

func (p *pool[T]) put(v *T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) < 4 {
		p.free = append(p.free, v)
	}
}

// Applied is the index up to which the state has seen the log.
func (p *Partition) Applied() (uint64, error) {
	p.viewMu.Lock()
	defer p.viewMu.Unlock()
	return p.machine.Applied(), nil
}

// Apply applies a committed entry: all its effects and the applied index in one
// batch of the state. The lock is held until the batch is in, because queries
// read the state beside what the machine has cached.
func (p *Partition) Apply(e storage.Entry) (any, error) {
	a := p.appliedSet.get()
	a.effects.Reset()
	if err := p.applyLocked(&e, &a.effects); err != nil {
		return nil, fmt.Errorf("partition %d: %w", p.id, err)
	}
	return a, nil
}

func (p *Partition) applyLocked(e *storage.Entry, eff *repository.Effects) error {
	p.viewMu.Lock()
	defer p.viewMu.Unlock()
	if err := p.machine.Apply(e.Index, e.Term, e.Data, eff); err != nil {
		return err
	}
	return p.commit(eff)
}

// recordOverhead is what a batch takes for a record beside key and value, at most.
const recordOverhead = 24

func (p *Partition) commit(eff *repository.Effects) error {
	b := p.state.NewBatchSize(eff.Bytes() + eff.Len()*recordOverhead)
	eff.Each(func(kind repository.OpKind, key, value []byte) {
		switch kind {
		case repository.OpSet:
			b.Set(key, value)
		case repository.OpDelete:
			b.Delete(key)
		case repository.OpDeleteRange:
			b.DeleteRange(key, value)
		}
	})
	return b.Commit()
}

// stateReader makes a repository.Reader of a storage.State. One goroutine at a
// time: the partition's lock sees to that.
type stateReader struct {
	state *storage.State
}

// Get returns the value of key, in memory of its own.
func (r stateReader) Get(key []byte) ([]byte, bool, error) {
	v, err := r.state.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, false, nil
	}
	return v, err == nil, err
}

// Scan visits the keys of [lower, upper) in order.
func (r stateReader) Scan(lower, upper []byte, visit func(key, value []byte) bool) error {
	return r.state.Scan(lower, upper, visit)
}
