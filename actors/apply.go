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
	home    *pool[applied]
}

// Drop implements cluster.Unwanted: on a follower nobody waits for what an entry led to, and its memory
// is used again.
func (a *applied) Drop() { a.home.put(a) }

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

// Applied is the index up to which the state has seen the log, and the replicas
// that the partition has by then; nothing as long as they never changed.
// A state that could not be read at the start is storage.ErrCorrupt, until it is
// replaced.
func (p *Partition) Applied() (index uint64, conf []byte, err error) {
	if err := p.readable(); err != nil {
		return 0, nil, p.wrong(err)
	}
	return p.AppliedIn(p.state)
}

// readable reads the records again if that failed at the start: they may have been
// cleared away since, for another replica.
func (p *Partition) readable() error {
	p.viewMu.Lock()
	defer p.viewMu.Unlock()
	if p.broken == nil {
		return nil
	}
	m, err := repository.New(p.id, stateReader{p.state}, p.relay.cfg.Machine)
	if err != nil {
		return err
	}
	p.machine, p.broken = m, nil
	return nil
}

// damaged says whether an error means that records cannot be relied on.
func damaged(err error) bool {
	var record *repository.CorruptError
	return errors.As(err, &record) || errors.Is(err, storage.ErrCorrupt)
}

// AppliedIn is the same of another view of the state. It touches nothing else of
// the partition.
func (p *Partition) AppliedIn(r storage.Reader) (index uint64, conf []byte, err error) {
	return AppliedIn(r, p.id)
}

// AppliedIn is the same of partition id's records in any state.
func AppliedIn(r storage.Reader, id repository.PartitionID) (index uint64, conf []byte, err error) {
	appliedKey, confKey := repository.PositionKeys(id)
	v, err := r.Get(appliedKey)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return 0, nil, nil
	case err == nil:
		index, err = repository.DecodeUint(v)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("partition %d: read applied index: %w", id, err)
	}
	conf, err = r.Get(confKey)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return 0, nil, fmt.Errorf("partition %d: read replicas: %w", id, err)
	}
	return index, conf, nil
}

// LogTimeIn is the log time that partition id's records in any state are of, in
// milliseconds since the Unix epoch; 0 if none.
func LogTimeIn(r storage.Reader, id repository.PartitionID) (int64, error) {
	m, err := repository.New(id, stateReader{r}, repository.Options{})
	if err != nil {
		return 0, fmt.Errorf("partition %d: read log time: %w", id, err)
	}
	return m.LogTime(), nil
}

// ApplyConf applies a committed entry that changes the partition's replicas.
func (p *Partition) ApplyConf(e storage.Entry, conf []byte) error {
	p.viewMu.Lock()
	defer p.viewMu.Unlock()
	a := p.appliedSet.get()
	defer p.appliedSet.put(a)
	a.effects.Reset()
	if err := p.machine.ApplyConf(e.Index, conf, &a.effects); err != nil {
		return p.wrong(err)
	}
	return p.commit(&a.effects)
}

// KeyRange bounds the partition's keys in the state.
func (p *Partition) KeyRange() (lower, upper []byte) { return p.lower, p.upper }

// Installed reads everything afresh: another replica's state took the place of
// this one's.
func (p *Partition) Installed() error {
	m, err := repository.New(p.id, stateReader{p.state}, p.relay.cfg.Machine)
	if err != nil {
		return p.wrong(err)
	}
	p.viewMu.Lock()
	defer p.viewMu.Unlock()
	p.machine, p.broken = m, nil
	return nil
}

// Apply applies a committed entry: all its effects and the applied index in one
// batch of the state. The lock is held until the batch is in, because queries
// read the state beside what the machine has cached.
func (p *Partition) Apply(e storage.Entry) (any, error) {
	a := p.appliedSet.get()
	a.home = &p.appliedSet
	a.effects.Reset()
	if err := p.applyLocked(&e, &a.effects); err != nil {
		return nil, p.wrong(err)
	}
	return a, nil
}

func (p *Partition) applyLocked(e *storage.Entry, eff *repository.Effects) error {
	p.viewMu.Lock()
	defer p.viewMu.Unlock()
	if err := p.machine.Apply(e.Index, e.Term, e.Data, eff); err != nil {
		return err
	}
	if err := p.commit(eff); err != nil {
		return err
	}
	p.watches.applied(eff)
	return nil
}

// wrong names the partition, and marks damage as what it is to the engine.
func (p *Partition) wrong(err error) error {
	var damage *repository.CorruptError
	if errors.As(err, &damage) {
		return fmt.Errorf("partition %d: %w: %w", p.id, storage.ErrCorrupt, err)
	}
	return fmt.Errorf("partition %d: %w", p.id, err)
}

// recordOverhead is what a batch takes for a record beside key and value, at most.
const recordOverhead = 24

func (p *Partition) commit(eff *repository.Effects) error {
	b := p.state.NewBatchSize(eff.Bytes() + eff.Len()*recordOverhead)
	eff.Each(func(kind repository.OpKind, key, value []byte) {
		switch kind {
		case repository.OpSet:
			b.Set(key, value)
		case repository.OpSetNew:
			b.SetNew(key, value)
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
	state storage.Reader
}

// nothing is a state without records.
type nothing struct{}

// Get implements storage.Reader.
func (nothing) Get([]byte) ([]byte, error) { return nil, storage.ErrNotFound }

// Scan implements storage.Reader.
func (nothing) Scan(_, _ []byte, _ func(key, value []byte) bool) error { return nil }

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
