package repository

// checkPosition decides all but the next position of a producer.
func (m *Machine) checkPosition(prod *producer, p *published) (PublishResult, bool) {
	if len(m.fences) > 0 && p.epoch < m.fences[string(p.producer)].epoch {
		return PublishResult{Code: Fenced}, true
	}
	switch {
	case prod == nil && p.position != 1:
		return PublishResult{Code: UnknownProducer}, true
	case prod == nil:
		return PublishResult{}, false
	case p.epoch < prod.epoch:
		return PublishResult{Code: Fenced}, true
	case p.epoch > prod.epoch && p.position != 1:
		return PublishResult{Code: Gap, Expected: 1}, true
	case p.epoch > prod.epoch:
		return PublishResult{}, false
	case p.position > prod.last+1:
		return PublishResult{Code: Gap, Expected: prod.last + 1}, true
	case p.position <= prod.last:
		if seq, ok := prod.find(p.position); ok {
			return PublishResult{Seq: seq, Code: Duplicate}, true
		}
		return PublishResult{Code: TooOld, Expected: prod.last + 1}, true
	}
	return PublishResult{}, false
}

// accept advances the producer's position; its next one was checked.
func (m *Machine) accept(r *repo, p *published, prod **producer, seq Seq) {
	x := *prod
	switch {
	case x == nil:
		x = &producer{epoch: p.epoch}
		*prod = x
		m.keepProducer(r, string(p.producer), x)
		m.eff.set(m.keyIdle(m.logTimeMs, r.id, string(p.producer)), nil)
	case p.epoch > x.epoch:
		x.epoch, x.last, x.runs = p.epoch, 0, x.runs[:0]
	}
	x.advance(seq)
	x.seenMs = m.logTimeMs
	if !x.dirty {
		x.dirty = true
		m.positions = append(m.positions, moved{p.producer, x})
	}
}

// moved is a producer whose position a publication advanced. Its record is written
// once, however often producers take turns: it may be of kilobytes.
type moved struct {
	name []byte
	p    *producer
}

// storePositions writes the records of the producers that a publication advanced.
func (m *Machine) storePositions(r *repo) {
	for i := range m.positions {
		x := &m.positions[i]
		m.storeProducer(r, string(x.name), x.p)
	}
	clear(m.positions)
	m.positions = m.positions[:0]
}
