package route

import (
	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
)

// slot is a forwarded packet that has no answer yet.
type slot struct {
	sink      actors.Sink // nil: answered
	index     uint64      // in its own stream
	bytes     int
	partition repository.PartitionID
}

const chunkSlots = 64

type chunk struct {
	open  int
	slots [chunkSlots]slot
}

// slots are the unanswered packets of one stream by their ordinal in it. Answers
// come in any order; a chunk goes when its last one has come.
type slots struct {
	next   uint64 // the ordinal of the next packet
	open   int
	chunks map[uint64]*chunk
	spare  *chunk
}

// add gives s the next ordinal.
func (q *slots) add(s slot) {
	at := q.next
	q.next++
	c := q.chunks[at/chunkSlots]
	if c == nil {
		if c = q.spare; c == nil {
			c = new(chunk)
		}
		q.spare = nil
		if q.chunks == nil {
			q.chunks = map[uint64]*chunk{}
		}
		q.chunks[at/chunkSlots] = c
	}
	c.slots[at%chunkSlots] = s
	c.open++
	q.open++
}

// take removes a packet; ok is false if it was answered before, or never sent.
func (q *slots) take(ordinal uint64) (s slot, ok bool) {
	c := q.chunks[ordinal/chunkSlots]
	if c == nil {
		return s, false
	}
	p := &c.slots[ordinal%chunkSlots]
	if p.sink == nil {
		return s, false
	}
	s = *p
	*p = slot{}
	c.open--
	q.open--
	if c.open == 0 {
		delete(q.chunks, ordinal/chunkSlots)
		q.spare = c
	}
	return s, true
}

// drain removes every packet that want chooses, in no order.
func (q *slots) drain(want func(ordinal uint64, s *slot) bool) {
	for at, c := range q.chunks {
		for i := range c.slots {
			ordinal := at*chunkSlots + uint64(i)
			if c.slots[i].sink != nil && want(ordinal, &c.slots[i]) {
				q.take(ordinal)
			}
		}
	}
}

// reset begins a new stream. Nothing may be open.
func (q *slots) reset() { q.next = 0 }

// answers gathers results by sink, so that each gets its own in one call.
type answers struct {
	list []sinkResults
	last int
}

type sinkResults struct {
	sink    actors.Sink
	results []actors.PublishResult
}

func (a *answers) add(sink actors.Sink, r actors.PublishResult) {
	if a.last >= len(a.list) || a.list[a.last].sink != sink {
		a.last = a.find(sink)
	}
	x := &a.list[a.last]
	x.results = append(x.results, r)
}

func (a *answers) find(sink actors.Sink) int {
	for i := range a.list {
		if a.list[i].sink == sink {
			return i
		}
	}
	n := len(a.list)
	if n < cap(a.list) {
		a.list = a.list[:n+1] // with the memory of its results
	} else {
		a.list = append(a.list, sinkResults{})
	}
	a.list[n].sink = sink
	return n
}

// give hands the results out. No lock may be held.
func (a *answers) give() {
	for i := range a.list {
		x := &a.list[i]
		x.sink.Results(x.results)
		clear(x.results)
		*x = sinkResults{results: x.results[:0]}
	}
	a.list, a.last = a.list[:0], 0
}
