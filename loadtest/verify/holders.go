package verify

import (
	"sync"
	"time"
)

// Holders watches that no two workers hold a repository at the same time, as far
// as the workers themselves can tell. A worker holds it from the moment that it
// begins with a packet until it is through with that packet, or until the lease
// has run out by the relay's own word. One that died in between never gets
// through: what it held is held until the lease has run out.
//
// That sees less than there may be (renewals, packets that a worker was handed
// and had not begun with), and nothing that was not so. It may be used by several
// goroutines.
type Holders struct {
	mu    sync.Mutex
	holds map[int]*Hold
	twice int64
	dead  map[int]bool
}

// Hold is a repository's, of one worker, under one lease.
type Hold struct {
	Repo, Worker int
	Token        uint64
	// Expires is when the lease ends, renewals not counted.
	Expires Tick
	// orphan is set when the worker died over it, at died.
	orphan bool
	died   Tick
}

// NewHolders returns a watcher of nobody.
func NewHolders() *Holders {
	return &Holders{holds: make(map[int]*Hold), dead: make(map[int]bool)}
}

// Begin notes that a worker begins with a packet. What it returns is for End. taken
// says that this is the first one after a holder who died, and after is how long
// ago that was.
func (h *Holders) Begin(n Hold, at Tick) (hold *Hold, after time.Duration, taken bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead[n.Worker] {
		return &n, 0, false // its connection is cut: it only does not know yet
	}
	before := h.holds[n.Repo]
	if before != nil && at < before.Expires && (before.Worker != n.Worker || before.Token > n.Token) {
		h.twice++
	}
	h.holds[n.Repo] = &n
	if before == nil || !before.orphan {
		return &n, 0, false
	}
	return &n, at.Since(before.died), true
}

// End notes that a worker is through with the packet, before anybody else is told.
func (h *Holders) End(hold *Hold) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !hold.orphan && h.holds[hold.Repo] == hold {
		delete(h.holds, hold.Repo)
	}
}

// Die notes that workers are dead: nothing that they send reaches the relay any
// more. It returns how many repositories they held.
func (h *Holders) Die(at Tick, workers ...int) (held int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range workers {
		h.dead[w] = true
	}
	for _, hold := range h.holds {
		if !hold.orphan && h.dead[hold.Worker] {
			hold.orphan, hold.died = true, at
			held++
		}
	}
	return held
}

// Orphans is how many repositories a dead worker held last, and nobody since.
func (h *Holders) Orphans() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, hold := range h.holds {
		if hold.orphan {
			n++
		}
	}
	return n
}

// Twice counts repositories that were handed to a worker while another's lease was valid.
func (h *Holders) Twice() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.twice
}
