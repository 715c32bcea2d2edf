package client

import (
	"github.com/waystation/waystation/client/internal/order"
	"github.com/waystation/waystation/messages/codec"
)

// frame is what one gathering gives: tries in the order of their ordinals.
type frame struct {
	tries []order.Try[*item]
	bytes int // at most
	raw   *codec.Raw
}

// gather fills f from the lanes in turn.
func (s *pipe) gather(f *frame) {
	p := s.p
	maxPackets := p.c.cfg.framePackets
	if p.isolate {
		if p.inFlight() > 0 {
			return
		}
		maxPackets = 1
	}
	overhead := positionOverhead + len(p.c.producer)
	for len(f.tries) < maxPackets {
		l := s.ready.pop()
		if l == nil {
			break
		}
		l.listed = false
		full := s.gatherLane(f, l, maxPackets, overhead)
		p.list(l)
		if full {
			break
		}
	}
	s.fresh = 0
}

// inFlight is how many tries have no answer.
func (p *publisher) inFlight() (n int) {
	for _, s := range p.pipes {
		n += s.slots.Len()
	}
	return n
}

// gatherLane takes from one lane, and says whether the frame is full.
func (s *pipe) gatherLane(f *frame, l *lane, maxPackets, overhead int) (full bool) {
	for len(f.tries) < maxPackets {
		it, ok := l.Peek()
		if !ok {
			return false
		}
		size := it.size + overhead
		if len(f.tries) > 0 && f.bytes+size > s.p.c.cfg.frameBytes {
			return true
		}
		t := l.Take()
		s.slots.Put(slot{lane: l, key: t.Key, round: l.round})
		f.tries = append(f.tries, t)
		f.bytes += size
	}
	return true
}
