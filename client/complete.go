package client

import "slices"

// complete gives the room of ended packets back and calls their callbacks,
// without a lock.
func (p *publisher) complete(done []completion) {
	if len(done) == 0 {
		return
	}
	var packets int
	var bytes int64
	for i := range done {
		packets++
		bytes += done[i].it.cost
	}
	// The room first: a callback may make use of it.
	p.c.window.release(packets, bytes)
	for i := range done {
		if d := &done[i]; d.it.done != nil {
			d.it.done(d.receipt, d.err)
		}
	}
	p.mu.Lock()
	for i := range done {
		p.leave(done[i].it.flock)
	}
	p.mu.Unlock()
	for i := range done {
		if it := done[i].it; it.pooled {
			it.reset()
			p.c.items.Put(it)
		}
	}
}

func (p *publisher) leave(f *flock) {
	if f.n--; f.n > 0 || !f.sealed {
		return
	}
	close(f.done)
	p.sealed = slices.DeleteFunc(p.sealed, func(o *flock) bool { return o == f })
}

// flocks seals what was handed over so far and returns a channel for each set of
// packets that is not finished.
func (p *publisher) flocks() []chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flock.n > 0 {
		p.flock.sealed, p.flock.done = true, make(chan struct{})
		p.sealed = append(p.sealed, p.flock)
		p.flock = &flock{}
	}
	var open []chan struct{}
	for _, f := range p.sealed {
		open = append(open, f.done)
	}
	return open
}

// abandon is called when nobody waits for a packet any more. It returns what is
// known of the outcome, or that it ended at the same moment. A packet that may
// have been accepted stays until that is known, with a copy of what belongs to
// the caller: its error never is the refusal of an earlier try.
func (p *publisher) abandon(it *item) (known error, ended bool) {
	p.encode.Lock()
	p.mu.Lock()
	if it.over {
		p.mu.Unlock()
		p.encode.Unlock()
		return nil, true
	}
	it.done = nil
	var done []completion
	if it.lane.Withdraw(it.key) {
		known = it.outcome(false)
		done = append(done, p.finish(it, Receipt{}, nil))
		done = p.advance(it.lane, done)
	} else {
		known = it.outcome(true)
		it.keep()
	}
	p.mu.Unlock()
	p.encode.Unlock()
	p.complete(done)
	return known, false
}

// giveUp ends the packets that have waited for too long.
func (p *publisher) giveUp(old func(*item) bool) {
	p.mu.Lock()
	var done []completion
	for _, l := range p.lanes {
		if !l.Idle() {
			l.GiveUp(old)
			done = p.advance(l, done)
		}
	}
	p.mu.Unlock()
	p.complete(done)
}
