package cluster

import (
	"slices"
	"sync"
)

// reads are the rounds that a worker asked raft for. All that waited when a
// round began share it.
type reads struct {
	last   uint64
	rounds map[uint64][]func(uint64, error)
}

// begin opens a round for dones, which it copies, and returns its id.
func (r *reads) begin(dones []func(uint64, error)) uint64 {
	if r.rounds == nil {
		r.rounds = map[uint64][]func(uint64, error){}
	}
	r.last++
	r.rounds[r.last] = slices.Clone(dones)
	return r.last
}

func (r *reads) end(id uint64) []func(uint64, error) {
	dones := r.rounds[id]
	delete(r.rounds, id)
	return dones
}

// fail answers all open rounds. Their order does not matter to anyone.
func (r *reads) fail(err error) {
	for id, dones := range r.rounds {
		delete(r.rounds, id)
		for _, done := range dones {
			done(0, err)
		}
	}
}

// confirms are reads that raft has confirmed and that wait until their index
// is applied. Raft confirms with indexes that never fall.
type confirms struct {
	mu     sync.Mutex
	closed error
	list   []confirm
}

type confirm struct {
	index uint64
	dones []func(uint64, error)
}

// add keeps dones until index is applied, or answers them at once. applied is
// read under the lock: release, which comes after it has grown, cannot have
// missed them.
func (c *confirms) add(index uint64, dones []func(uint64, error), applied func() uint64) {
	c.mu.Lock()
	err := c.closed
	now := applied()
	if err == nil && now < index {
		c.list = append(c.list, confirm{index, dones})
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	if err != nil {
		now = 0
	}
	for _, done := range dones {
		done(now, err)
	}
}

// release answers the reads whose index is applied.
func (c *confirms) release(applied uint64) {
	c.mu.Lock()
	n := 0
	for n < len(c.list) && c.list[n].index <= applied {
		n++
	}
	if n == 0 {
		c.mu.Unlock()
		return
	}
	ready := append([]confirm(nil), c.list[:n]...)
	rest := copy(c.list, c.list[n:])
	clear(c.list[rest:])
	c.list = c.list[:rest]
	c.mu.Unlock()
	for _, r := range ready {
		for _, done := range r.dones {
			done(applied, nil)
		}
	}
}

// fail answers all reads, now and later, with err.
func (c *confirms) fail(err error) {
	c.mu.Lock()
	list := c.list
	c.list, c.closed = nil, err
	c.mu.Unlock()
	for _, r := range list {
		for _, done := range r.dones {
			done(0, err)
		}
	}
}
