package client

import "container/heap"

// laneList is a list of lanes, linked through themselves.
type laneList struct{ head, tail *lane }

func (q *laneList) push(l *lane) {
	l.next, l.prev = nil, q.tail
	if q.tail == nil {
		q.head = l
	} else {
		q.tail.next = l
	}
	q.tail = l
}

func (q *laneList) pop() *lane {
	l := q.head
	if l != nil {
		q.remove(l)
	}
	return l
}

// remove takes a lane out that is in the list.
func (q *laneList) remove(l *lane) {
	if l.prev == nil {
		q.head = l.next
	} else {
		l.prev.next = l.next
	}
	if l.next == nil {
		q.tail = l.prev
	} else {
		l.next.prev = l.prev
	}
	l.next, l.prev = nil, nil
}

// delayQueue holds the lanes that wait, the one whose wait ends first in front.
type delayQueue struct {
	lanes   delayHeap
	jumbled bool // waits have become shorter
}

// push adds a lane, and says whether it is in front.
func (q *delayQueue) push(l *lane) (front bool) {
	if !l.timed {
		l.timed = true
		heap.Push(&q.lanes, l)
	}
	return q.lanes[0] == l
}

// first is the lane whose wait ends first, nil if none waits.
func (q *delayQueue) first() *lane {
	if len(q.lanes) == 0 {
		return nil
	}
	if q.jumbled {
		heap.Init(&q.lanes)
		q.jumbled = false
	}
	return q.lanes[0]
}

// pop removes first.
func (q *delayQueue) pop() {
	heap.Pop(&q.lanes).(*lane).timed = false
}

type delayHeap []*lane

func (h delayHeap) Len() int           { return len(h) }
func (h delayHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h delayHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *delayHeap) Push(l any)        { *h = append(*h, l.(*lane)) }

func (h *delayHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}
