package actors

import "github.com/waystation/waystation/actors/intake"

// follow makes the changes of leadership that the engine told, in order.
func (p *Partition) follow() {
	for {
		p.mu.Lock()
		if len(p.changes) == 0 {
			p.mu.Unlock()
			return
		}
		c := p.changes[0]
		p.changes = append(p.changes[:0], p.changes[1:]...)
		p.mu.Unlock()
		p.cease(refusedNotLeader) // a new term ends the old one, told or not
		if c.lead {
			p.begin(c.term)
		}
	}
}

// begin opens the intake of a term. No actor of an earlier one is left.
func (p *Partition) begin(term uint64) {
	p.mu.Lock()
	over := len(p.changes) > 0
	p.mu.Unlock()
	if over {
		return
	}
	p.actors.openAll()
	p.mu.Lock()
	if len(p.changes) == 0 {
		p.term.Store(term)
	}
	p.mu.Unlock()
	p.loop.led = term
	if l := p.relay.listener(); l != nil {
		l.LeaderStarted(p, term)
	}
}

// cease closes the intake: what waits is certainly not proposed, and is refused.
func (p *Partition) cease(refusal *Refusal) {
	p.mu.Lock()
	p.term.Store(0)
	e := &entry{partition: p}
	for p.settles.len() > 0 {
		e.settles = append(e.settles, p.settles.pop())
	}
	for p.grants.len() > 0 {
		e.grants = append(e.grants, p.grants.pop())
	}
	for p.orders.len() > 0 {
		e.orders = append(e.orders, p.orders.pop())
	}
	p.batcher.DrainAll(func(items []intake.Item[packetRef]) {
		for i := range items {
			e.queued = append(e.queued, items[i].Value)
		}
	})
	p.mu.Unlock()
	p.watches.endAll()
	e.answerCommands(refusal)
	p.refuseQueued(e, refusal)
	p.actors.stopAll(refusal)
	if term := p.loop.led; term != 0 {
		p.loop.led = 0
		if l := p.relay.listener(); l != nil {
			l.LeaderStopped(p, term)
		}
	}
}

// refuseQueued answers packets that are not proposed. Their actors are about to
// stop: the filters need not know.
func (p *Partition) refuseQueued(e *entry, refusal *Refusal) {
	for i := range e.queued {
		q := &e.queued[i]
		*p.loop.answers.next(q.in.sink) = q.in.result(q.at, refusal)
		p.relay.intake.release(q.resident, charge(q.in.packet(q.at)))
	}
	p.relay.metrics.refused(refusal, len(e.queued))
	p.loop.answers.flush()
	e.letFramesGo()
}

// drain refuses what is new from now on.
func (p *Partition) drain() {
	p.mu.Lock()
	p.draining = true
	p.mu.Unlock()
	p.signal()
}

// tellDrained closes drained, once.
func (p *Partition) tellDrained() {
	p.mu.Lock()
	empty := p.draining && p.loop.inFlight == nil &&
		p.settles.len()+p.grants.len()+p.orders.len()+p.batcher.Packets() == 0
	p.mu.Unlock()
	if !empty {
		return
	}
	select {
	case <-p.drained:
	default:
		close(p.drained)
	}
}

// quitLoop answers all who still wait. What the engine says of the entry in
// flight, if it ever does, comes too late.
func (p *Partition) quitLoop() {
	p.cease(refusedStopping)
	p.answer()
	if e := p.loop.inFlight; e != nil {
		p.loop.inFlight = nil
		e.answerCommands(refusedUnknown)
		p.deliver(e, intake.Unknown, nil)
	}
}
