package client

import "github.com/waystation/waystation/client/internal/order"

// frame is what one gathering gives: tries in the order of their ordinals.
type frame struct {
	tries []order.Try[*item]
	bytes int // at most
}

// gather fills f from the lanes in turn.
func (p *publisher) gather(f *frame) {
	maxPackets := p.c.cfg.framePackets
	if p.isolate {
		if p.slots.Len() > 0 {
			return
		}
		maxPackets = 1
	}
	overhead := positionOverhead + len(p.c.producer)
	for len(f.tries) < maxPackets {
		l := p.ready.pop()
		if l == nil {
			break
		}
		l.listed = false
		full := p.gatherLane(f, l, maxPackets, overhead)
		p.list(l)
		if full {
			break
		}
	}
	p.fresh = 0
}

// gatherLane takes from one lane, and says whether the frame is full.
func (p *publisher) gatherLane(f *frame, l *lane, maxPackets, overhead int) (full bool) {
	for len(f.tries) < maxPackets {
		it, ok := l.Peek()
		if !ok {
			return false
		}
		size := it.size + overhead
		if len(f.tries) > 0 && f.bytes+size > p.c.cfg.frameBytes {
			return true
		}
		t := l.Take()
		p.slots.Put(slot{lane: l, key: t.Key})
		f.tries = append(f.tries, t)
		f.bytes += size
	}
	return true
}
