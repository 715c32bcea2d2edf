package api

import (
	"sync"
	"sync/atomic"
)

// Health is what a node says of itself. It begins as starting; safe for
// concurrent use.
type Health struct {
	state    atomic.Pointer[healthState]
	draining chan struct{} // closed by Drain
	once     sync.Once
	quorum   func() error
}

type healthState struct {
	name  string
	ready bool
	fatal bool
}

const starting = "starting"

// NewHealth returns the health of a node that starts. quorum, asked whenever the
// node is ready, says why it could not serve all the same; it must not block.
func NewHealth(quorum func() error) *Health {
	h := &Health{draining: make(chan struct{}), quorum: quorum}
	h.state.Store(&healthState{name: starting})
	return h
}

// Ready says that the node serves; not if it drains or failed meanwhile.
func (h *Health) Ready() {
	if s := h.state.Load(); s.name == starting {
		h.state.CompareAndSwap(s, &healthState{name: "up", ready: true})
	}
}

// Leave says that the node is about to go away: it is ready for nobody new, and
// serves those that are here until Drain.
func (h *Health) Leave() {
	for s := h.state.Load(); !s.fatal; s = h.state.Load() {
		if h.state.CompareAndSwap(s, &healthState{name: "draining"}) {
			return
		}
	}
}

// Drain says that the node goes away: no new work.
func (h *Health) Drain() {
	h.once.Do(func() {
		h.Leave()
		close(h.draining)
	})
}

// Fail says that the node cannot go on, and why.
func (h *Health) Fail(err error) {
	h.state.Store(&healthState{name: err.Error(), fatal: true})
}

// Draining is closed once Drain was called.
func (h *Health) Draining() <-chan struct{} { return h.draining }

// State is one word: starting, up, draining or down.
func (h *Health) State() string {
	s := h.state.Load()
	if s.fatal {
		return "down"
	}
	return s.name
}

// unready is why the node does not serve, or empty.
func (h *Health) unready() string {
	if s := h.state.Load(); !s.ready {
		return s.name
	}
	if err := h.quorum(); err != nil {
		return err.Error()
	}
	return ""
}

// unhealthy is why the node should be restarted, or empty.
func (h *Health) unhealthy() string {
	if s := h.state.Load(); s.fatal {
		return s.name
	}
	return ""
}
