package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// Photo is a replica's state at one applied index, for a long read. It must be
// closed.
type Photo struct {
	// State holds the keys in [Lower, Upper), the group's own, and no others.
	State        *storage.StateSnapshot
	Lower, Upper []byte
	At           storage.Position
	Conf         replica.Conf
}

// Close frees the photo.
func (p *Photo) Close() {
	if p.State != nil {
		_ = p.State.Close() // read-only: nothing to lose
	}
}

// ErrPassed says that a replica is beyond the index at which a photo of it was
// wanted.
var ErrPassed = errors.New("the replica is past that index")

// maxShots bounds how many photos of one replica may wait for their index.
const maxShots = 8

// Shot is a photo that waits for its index. It must be closed; the photo that
// Wait returned stays the caller's.
type Shot struct {
	group *group
	index uint64
	taken chan struct{} // closed once photo or err is there

	mu     sync.Mutex
	photo  *Photo
	err    error
	closed bool
}

// ArmPhoto has a photo taken of this node's replica of group g right after entry
// index is applied, and at once if that is the last one applied; while a snapshot
// is being installed, once that is done. ErrPassed says that it is too late. It
// waits for the apply loop's turn.
func (e *Engine) ArmPhoto(g storage.GroupID, index uint64) (*Shot, error) {
	gr := e.group(g)
	if gr == nil {
		return nil, fmt.Errorf("photo of group %d: %w", g, ErrNoGroup)
	}
	s := &Shot{group: gr, index: index, taken: make(chan struct{})}
	var err error
	called := e.await(func(done func()) {
		e.applier.call(func() { err = e.applier.arm(s); done() })
	})
	if called != nil {
		s.Close()
		err = called
	}
	if err != nil {
		return nil, fmt.Errorf("photo of group %d at %d: %w", g, index, err)
	}
	return s, nil
}

// Wait returns the photo once it is taken, or ctx's error, or why it never will be.
func (s *Shot) Wait(ctx context.Context) (*Photo, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.taken:
			s.mu.Lock()
			defer s.mu.Unlock()
			p := s.photo
			s.photo = nil
			return p, s.err
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for entry %d of group %d: %w", s.index, s.group.id, ctx.Err())
		case <-s.group.engine.quit:
			return nil, ErrStopped
		case <-tick.C: // who fails a replica knows of no photos
			if s.group.failure.Load() != nil {
				return nil, s.group.stopped()
			}
		}
	}
}

// Close gives the photo up, if nobody has it yet.
func (s *Shot) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.photo != nil {
		s.photo.Close()
		s.photo = nil
	}
}

func (s *Shot) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// end answers a shot, which has no answer yet.
func (s *Shot) end(p *Photo, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed && p != nil {
		p.Close()
		p = nil
	}
	s.photo, s.err = p, err
	close(s.taken)
}

// arm is called by the apply loop.
func (a *applier) arm(s *Shot) error {
	g := s.group
	switch {
	case g.failure.Load() != nil:
		return g.stopped()
	case g.at.Index > s.index:
		return fmt.Errorf("%w: it is at %d", ErrPassed, g.at.Index)
	}
	kept := g.shots[:0]
	for _, x := range g.shots {
		if !x.over() {
			kept = append(kept, x)
		}
	}
	clear(g.shots[len(kept):])
	if g.shots = kept; len(kept) >= maxShots {
		return fmt.Errorf("%w: %d photos wait already", ErrDropped, len(kept))
	}
	g.shots = append(g.shots, s)
	if !g.installing { // the state is being replaced: what comes of it, the install says
		a.shoot(g)
	}
	return nil
}

// shoot answers the shots whose index is reached.
func (a *applier) shoot(g *group) {
	kept := g.shots[:0]
	for _, s := range g.shots {
		switch {
		case g.at.Index == s.index:
			s.end(a.photograph(g), nil)
		case g.at.Index > s.index:
			s.end(nil, fmt.Errorf("photo of group %d: %w: it is at %d", g.id, ErrPassed, g.at.Index))
		default:
			kept = append(kept, s)
		}
	}
	clear(g.shots[len(kept):])
	g.shots = kept
}

// photograph is called by the apply loop, between entries.
func (a *applier) photograph(g *group) *Photo {
	lower, upper := g.sm.KeyRange()
	return &Photo{State: a.engine.cfg.State.SnapshotRange(lower, upper), Lower: lower, Upper: upper, At: g.at, Conf: g.conf}
}

// WholePhoto returns a photo of now in which all is spilled: payloads too, as far
// as anything refers to them, so that it needs no log. It takes as long as the
// spill; when ctx ends, its error comes after that.
func (e *Engine) WholePhoto(ctx context.Context, g storage.GroupID) (*Photo, error) {
	gr := e.group(g)
	if gr == nil {
		return nil, fmt.Errorf("photo of group %d: %w", g, ErrNoGroup)
	}
	if err := e.await(e.applier.call); err != nil { // the engine runs: the order is carried out
		return nil, fmt.Errorf("photo of group %d: %w", g, err)
	}
	got := make(chan photo, 1)
	e.applier.order(&spill{group: gr, photo: got, ranged: true})
	var p photo
	select {
	case p = <-got:
	case <-e.quit:
		<-e.ended
		select {
		case p = <-got:
		default:
		}
		p.err = ErrStopped
	}
	if p.err == nil {
		p.err = ctx.Err()
	}
	if p.err != nil {
		p.close()
		return nil, fmt.Errorf("photo of group %d: %w", g, p.err)
	}
	lower, upper := gr.sm.KeyRange()
	return &Photo{State: p.state, Lower: lower, Upper: upper, At: p.at, Conf: p.conf}, nil
}
