package actors

import (
	"runtime"
	"sync"
)

// dispatcher runs actors on a few goroutines that stay: a goroutine for each turn,
// as the library's own does it, grows its stack anew each time, which was a tenth
// of all the CPU of the way in. Actors do not wait for one another, so that few
// suffice; for one that is stuck all the same, reinforce adds another.
type dispatcher struct {
	mu      sync.Mutex
	ready   *sync.Cond
	queue   queue[func()]
	idle    int // workers that wait
	workers int
	most    int // workers that may run at once
	taken   uint64
	seen    uint64 // taken, when reinforce last looked
	closed  bool
	done    sync.WaitGroup
}

func newDispatcher() *dispatcher {
	d := &dispatcher{most: 2*runtime.GOMAXPROCS(0) + 2}
	d.ready = sync.NewCond(&d.mu)
	return d
}

// Schedule runs f soon, in the order of the calls.
func (d *dispatcher) Schedule(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue.push(f)
	switch {
	case d.idle >= d.queue.len(): // one that waits is idle until it has woken up
		d.ready.Signal()
	case d.workers < d.most && !d.closed:
		d.startLocked()
	}
}

// Throughput is how many messages an actor may handle before others have a turn.
func (d *dispatcher) Throughput() int { return 64 }

func (d *dispatcher) startLocked() {
	d.workers++
	d.done.Add(1)
	go d.work()
}

func (d *dispatcher) work() {
	defer d.done.Done()
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		for d.queue.len() == 0 {
			if d.closed {
				return
			}
			d.idle++
			d.ready.Wait()
			d.idle--
		}
		f := d.queue.pop()
		d.taken++
		d.mu.Unlock()
		f()
		d.mu.Lock()
	}
}

// reinforce starts one more worker if nothing was taken from a queue that is not
// empty since the last call.
func (d *dispatcher) reinforce() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.queue.len() > 0 && d.taken == d.seen && d.idle == 0 && !d.closed {
		d.startLocked()
	}
	d.seen = d.taken
}

// close ends the workers once the queue is empty, and waits for them.
func (d *dispatcher) close() {
	d.mu.Lock()
	d.closed = true
	d.ready.Broadcast()
	if d.workers == 0 && d.queue.len() > 0 {
		d.startLocked()
	}
	d.mu.Unlock()
	d.done.Wait()
}
