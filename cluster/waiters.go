package cluster

import (
	"sync"
	"sync/atomic"
)

// waiter is a proposal whose outcome is awaited. The proposal number alone
// would do within one life of the engine; the term says which ones a change
// of leadership leaves unknown.
type waiter struct {
	term, proposal uint64
	done           func(any, error)
}

// waiters are the proposals in flight of one group, in the order in which they
// were proposed. There are few of them, and entries come back in that order:
// a slice beats a map.
type waiters struct {
	n      atomic.Int32
	mu     sync.Mutex
	list   []waiter
	closed bool
}

// add registers x, which must happen before its entry can be applied. It
// returns false after close.
func (w *waiters) add(x waiter) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.list = append(w.list, x)
	w.n.Add(1)
	return true
}

// take returns and forgets who waits for an entry, or nil.
func (w *waiters) take(term, proposal uint64) func(any, error) {
	if w.n.Load() == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, x := range w.list {
		if x.term == term && x.proposal == proposal {
			copy(w.list[i:], w.list[i+1:])
			w.shrink(len(w.list) - 1)
			return x.done
		}
	}
	return nil
}

// fail answers all waiters of other terms than keep with err. No term is 0.
func (w *waiters) fail(keep uint64, err error) {
	w.mu.Lock()
	var failed []waiter
	kept := 0
	for _, x := range w.list {
		if x.term == keep {
			w.list[kept] = x
			kept++
			continue
		}
		failed = append(failed, x)
	}
	w.shrink(kept)
	w.mu.Unlock()
	for _, x := range failed {
		x.done(nil, err)
	}
}

// close answers all waiters with err and takes no more.
func (w *waiters) close(err error) {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.fail(0, err)
}

func (w *waiters) shrink(n int) {
	w.n.Add(int32(n - len(w.list)))
	clear(w.list[n:])
	w.list = w.list[:n]
}
