package cluster

import (
	"runtime"
	"sync"
)

// queue hands work to one goroutine, which takes all that waits at once. It
// has no limit of its own: what goes through the queues between worker, log
// writer and apply loop is bounded by raft's limits on what is uncommitted and
// on what is being applied.
type queue[T any] struct {
	mu    sync.Mutex
	items []T
	spare []T
	bell  chan struct{}
}

func newQueue[T any]() queue[T] { return queue[T]{bell: make(chan struct{}, 1)} }

// push adds items, which it copies.
func (q *queue[T]) push(items ...T) {
	if len(items) == 0 {
		return
	}
	q.mu.Lock()
	q.items = append(q.items, items...)
	q.mu.Unlock()
	q.ring()
}

// put is push without waking the taker. It says whether nothing waited before.
func (q *queue[T]) put(item T) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, item)
	return len(q.items) == 1
}

// remind wakes the taker if something waits.
func (q *queue[T]) remind() {
	q.mu.Lock()
	n := len(q.items)
	q.mu.Unlock()
	if n > 0 {
		q.ring()
	}
}

// ring wakes the taker without giving it anything.
func (q *queue[T]) ring() {
	select {
	case q.bell <- struct{}{}:
	default:
	}
}

// take returns all items, without waiting. They are valid until recycle.
func (q *queue[T]) take() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items, q.spare = q.spare, nil
	return items
}

// recycle gives a taken slice back.
func (q *queue[T]) recycle(items []T) {
	clear(items)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spare = items[:0]
}

// wait blocks until something was pushed since the last take, or quit is
// closed, which it tells by false.
func (q *queue[T]) wait(quit <-chan struct{}) bool {
	select {
	case <-quit:
		return false
	default:
	}
	select {
	case <-quit:
		return false
	case <-q.bell:
		// Who rang is often about to push more, or others are: what all of them have is
		// taken at once, in a process that has nothing else to run at no cost.
		runtime.Gosched()
		return true
	}
}
