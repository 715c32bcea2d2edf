package replica

import (
	"github.com/waystation/waystation/internal/invariant"
	"github.com/waystation/waystation/storage"
)

// reset is what a replica must not do, see invariant.Reset: it goes on from its
// state, with an empty log and without its votes.
func reset(f Found, applied uint64) Start {
	p := storage.Position{Index: applied, Term: f.HardState.Term}
	return Start{
		Fresh: true, Truncated: p, Last: p, Applied: applied,
		HardState: storage.HardState{Term: p.Term, Commit: applied},
	}
}

// staleTo is the last index of a stale tail.
func (l *logView) staleTo() uint64 {
	if invariant.Broken(invariant.StaleTail) {
		return min(l.confirmed, l.written)
	}
	return l.written
}
