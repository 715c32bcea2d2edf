package lease

import (
	"container/heap"
	"time"
)

// Deadline is one lease's place in Deadlines.
type Deadline[T any] struct {
	Value T
	at    time.Duration // when it is due
	slot  time.Duration // when the heap looks at it: never after at
	pos   int           // in the heap, from 1; 0: not in it
}

// At is when it is due.
func (d *Deadline[T]) At() time.Duration { return d.at }

// Deadlines orders leases by when they run out. Times are on a monotonic clock
// of the caller's. A renewal only notes the new time: the heap is touched once a
// lease, not once a renewal.
type Deadlines[T any] struct{ heap deadlineHeap[T] }

// Set makes d due at the given time, and says whether that is the earliest of all.
func (q *Deadlines[T]) Set(d *Deadline[T], at time.Duration) (earliest bool) {
	d.at = at
	switch {
	case d.pos == 0:
		d.slot = at
		heap.Push(&q.heap, d)
	case at < d.slot:
		d.slot = at
		heap.Fix(&q.heap, d.pos-1)
	}
	return d.pos == 1
}

// Remove takes d out.
func (q *Deadlines[T]) Remove(d *Deadline[T]) {
	if d.pos > 0 {
		heap.Remove(&q.heap, d.pos-1)
	}
}

// Due removes and returns one deadline that is due at now.
func (q *Deadlines[T]) Due(now time.Duration) (d *Deadline[T], ok bool) {
	for len(q.heap) > 0 && q.heap[0].slot <= now {
		d = q.heap[0]
		if d.at <= now {
			heap.Pop(&q.heap)
			return d, true
		}
		d.slot = d.at
		heap.Fix(&q.heap, 0)
	}
	return nil, false
}

// Next is when to ask Due again; it may be early, never late.
func (q *Deadlines[T]) Next() (at time.Duration, ok bool) {
	if len(q.heap) == 0 {
		return 0, false
	}
	return q.heap[0].slot, true
}

// Len is the number of deadlines.
func (q *Deadlines[T]) Len() int { return len(q.heap) }

type deadlineHeap[T any] []*Deadline[T]

func (h deadlineHeap[T]) Len() int           { return len(h) }
func (h deadlineHeap[T]) Less(i, j int) bool { return h[i].slot < h[j].slot }
func (h deadlineHeap[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i+1, j+1
}

func (h *deadlineHeap[T]) Push(x any) {
	d := x.(*Deadline[T])
	*h = append(*h, d)
	d.pos = len(*h)
}

func (h *deadlineHeap[T]) Pop() any {
	old := *h
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	d.pos = 0
	return d
}
