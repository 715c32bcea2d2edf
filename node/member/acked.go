package member

import (
	"sync"
	"time"

	"github.com/waystation/waystation/storage"
)

// ackedAfter is the least time that a voter has to confirm what is acknowledged
// before it counts as a copy less. Under load the slower ones of a majority always
// lack what is on its way to them.
const ackedAfter = 500 * time.Millisecond

// acked remembers, of each group that this node leads, what was committed a while
// ago: what every voter that keeps up has on disk by now.
type acked struct {
	mu sync.Mutex
	of map[storage.GroupID]*ackedGroup
}

// ackedGroup has two commit indexes of a term, the older one at least ackedAfter
// old once the newer one is.
type ackedGroup struct {
	term         uint64
	older, newer uint64
	at           time.Duration // of newer
}

// look notes the commit index of a leader at a moment.
func (a *acked) look(g storage.GroupID, term, commit uint64, now time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.of[g]
	if x == nil || x.term != term {
		if a.of == nil {
			a.of = map[storage.GroupID]*ackedGroup{}
		}
		// Of what earlier leaders acknowledged nothing is known but that it is below.
		a.of[g] = &ackedGroup{term: term, older: commit, newer: commit, at: now}
		return
	}
	if now-x.at >= ackedAfter {
		x.older, x.newer, x.at = x.newer, commit, now
	}
}

// index is what the voters of a group should have: commit itself where nothing
// else is known of the term.
func (a *acked) index(g storage.GroupID, term, commit uint64) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if x := a.of[g]; x != nil && x.term == term {
		return min(x.older, commit)
	}
	return commit
}
