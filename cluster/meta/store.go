package meta

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/waystation/waystation/messages/envelope"
	"github.com/waystation/waystation/storage"
)

// Store applies the meta group's entries to the state: the cluster's state
// machine of group 0. View and Leading may be called from any goroutine.
type Store struct {
	state *storage.State
	view  atomic.Pointer[View]

	mu      sync.Mutex
	term    uint64 // in which this node leads, or 0
	turn    chan struct{}
	watches []func(*View)
}

// Open reads meta's state. A record that cannot be read is a
// *storage.CorruptError.
func Open(state *storage.State) (*Store, error) {
	s := &Store{state: state, turn: make(chan struct{})}
	if _, err := readApplied(state); err != nil {
		return nil, fmt.Errorf("open meta: %w", err)
	}
	v, err := readView(state)
	if err != nil {
		return nil, fmt.Errorf("open meta: %w", err)
	}
	s.view.Store(v)
	return s, nil
}

// View returns the state as it is applied now. After a restart that may be
// behind what was acknowledged before, until this node leads.
func (s *Store) View() *View { return s.view.Load() }

// Watch has f called, from the apply loop, with every new view; it must be
// short. It is called with the present one before Watch returns.
func (s *Store) Watch(f func(*View)) {
	s.mu.Lock()
	s.watches = append(s.watches, f)
	s.mu.Unlock()
	f(s.View())
}

// Leading returns the term in which this node leads the meta group, 0 if it
// does not, and a channel that is closed when that changes.
func (s *Store) Leading() (term uint64, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.term, s.turn
}

// Applied implements cluster.StateMachine.
func (s *Store) Applied() (uint64, []byte, error) { return s.AppliedIn(s.state) }

// AppliedIn implements cluster.StateMachine.
func (s *Store) AppliedIn(r storage.Reader) (uint64, []byte, error) {
	applied, err := readApplied(r)
	if err != nil {
		return 0, nil, err
	}
	conf, err := readConf(r)
	return applied, conf, err
}

// ApplyConf implements cluster.StateMachine.
func (s *Store) ApplyConf(e storage.Entry, conf []byte) error {
	b := s.state.NewBatch()
	r := appliedRecord(e.Index)
	b.Set(r.Key, r.Value)
	b.Set(key(tableConf), conf)
	if err := b.Commit(); err != nil {
		return fmt.Errorf("apply meta entry %d: %w", e.Index, err)
	}
	return nil
}

// KeyRange implements cluster.StateMachine: nothing comes behind meta's keys.
func (s *Store) KeyRange() (lower, upper []byte) { return []byte{0xff, 0xff}, []byte{0xff, 0xff, 0xff} }

// Installed implements cluster.StateMachine.
func (s *Store) Installed() error {
	v, err := readView(s.state)
	if err != nil {
		return fmt.Errorf("open meta: %w", err)
	}
	s.publish(v)
	return nil
}

// Apply implements cluster.StateMachine. The result is a Result, or nil for
// an entry that opens a term.
func (s *Store) Apply(e storage.Entry) (any, error) {
	out := Outcome{View: s.View()}
	var result any
	if len(e.Data) > 0 {
		var err error
		if out, err = s.apply(e); err != nil {
			return nil, err
		}
		result = out.Result
	}
	b := s.state.NewBatch()
	for _, r := range append(out.Records, appliedRecord(e.Index)) {
		if r.Value == nil {
			b.Delete(r.Key)
			continue
		}
		b.Set(r.Key, r.Value)
	}
	if err := b.Commit(); err != nil {
		return nil, fmt.Errorf("apply meta entry %d: %w", e.Index, err)
	}
	if old := s.View(); old != out.View {
		s.publish(out.View)
	}
	return result, nil
}

// Ahead applies an entry to the view alone: the state stays behind, so that no
// entry may be applied to this Store any more.
func (s *Store) Ahead(e storage.Entry) error {
	if len(e.Data) == 0 {
		return nil
	}
	out, err := s.apply(e)
	if err == nil {
		s.publish(out.View)
	}
	return err
}

func (s *Store) apply(e storage.Entry) (Outcome, error) {
	env, body, err := envelope.Parse(e.Data)
	if err != nil {
		return Outcome{}, fmt.Errorf("apply meta entry %d: %w", e.Index, err)
	}
	if env.Term != e.Term {
		// Proposed in another term than it came into the log: nobody waits for
		// it, and its proposer was told that the outcome is unknown.
		return refused(s.View(), ErrVoid), nil
	}
	c, err := decodeCommand(env.Kind, body)
	if err != nil {
		return Outcome{}, fmt.Errorf("apply meta entry %d: %w", e.Index, err)
	}
	return Apply(s.View(), c, At{TimeMs: env.TimeMs}, s.epoch)
}

func (s *Store) publish(v *View) {
	s.view.Store(v)
	s.mu.Lock()
	watches := s.watches
	s.mu.Unlock()
	for _, f := range watches {
		f(v)
	}
}

// Spill implements cluster.StateMachine: the state refers to no entry.
func (s *Store) Spill(uint64, int, func(uint64) ([]byte, error)) (bool, error) { return true, nil }

// Settled implements cluster.StateMachine.
func (s *Store) Settled(upTo uint64) (uint64, error) { return upTo, nil }

// Durable implements cluster.StateMachine.
func (s *Store) Durable(r storage.Reader, upTo uint64) (bool, error) {
	applied, err := readApplied(r)
	return applied >= upTo, err
}

// LeaderStart implements cluster.StateMachine.
func (s *Store) LeaderStart(term uint64) { s.lead(term) }

// LeaderStop implements cluster.StateMachine.
func (s *Store) LeaderStop(uint64) { s.lead(0) }

func (s *Store) lead(term uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.term = term
	close(s.turn)
	s.turn = make(chan struct{})
}

func (s *Store) epoch(name string) (uint64, error) {
	k := producerKey(name)
	v, err := s.state.Get(k)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read producer: %w", err)
	}
	epoch, err := parseProducer(v)
	return epoch, corrupt(k, "producer", err)
}
