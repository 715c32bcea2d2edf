package verify

import "sync"

// repo is what is known of one repository. All under mu.
type repo struct {
	mu      sync.Mutex
	records []record
	// held are the deliveries that no accepted settlement has ended yet: few, as credit bounds them.
	held []hold
	// highest is the largest number among first deliveries, by priority.
	highest [Priorities]uint64
	// token is the newest one seen.
	token uint64

	deduplicated, unmarked          int64
	redelivered, duplicated         int64
	reordered, stale, corrupt, none int64
}

type hold struct {
	number, token uint64
	index         uint32
}

func (p *repo) ack(index uint32, number uint64, duplicate bool) (change Live) {
	rec := &p.records[index]
	p.numbered(rec, number)
	if duplicate {
		p.deduplicated++
	} else if rec.is(markFresh) {
		// Two receipts that both claim to be the first: the resend was not recognised as one.
		p.unmarked++
	} else {
		rec.word |= markFresh
	}
	if rec.is(markAcked) {
		return Live{}
	}
	rec.word |= markAcked
	return Live{Acked: 1, Open: one(!rec.is(markSettled | markDead))}
}

// numbered holds a packet to the first number that was seen for it, whoever saw it.
func (p *repo) numbered(rec *record, number uint64) {
	switch known := rec.number(); {
	case number == 0 || number > uint64(numberMask):
		p.none++
	case known == 0:
		rec.word |= record64(number)
	case known != number && !rec.is(markTwice):
		rec.word |= markTwice
		p.duplicated++
	}
}

func (p *repo) deliver(d Delivery) Seen {
	if int(d.Index) >= len(p.records) || int(d.Priority) >= Priorities {
		p.corrupt++
		return Seen{}
	}
	rec := &p.records[d.Index]
	p.numbered(rec, d.Number)
	var seen Seen
	if rec.is(markDelivered) {
		p.redelivered++
	} else {
		rec.word |= markDelivered
		seen.First, seen.Took = true, d.At.Since(rec.sent)
		p.ordered(d)
	}
	if rec.is(markSettled) && d.At > rec.settled {
		p.duplicated++
	}
	if d.Token > p.token {
		seen.OldToken, p.token = p.token, d.Token
	}
	p.hold(d)
	return seen
}

// ordered checks that first deliveries only rise.
func (p *repo) ordered(d Delivery) {
	if d.Number <= p.highest[d.Priority] {
		p.reordered++
		return
	}
	p.highest[d.Priority] = d.Number
}

func (p *repo) hold(d Delivery) {
	for i := range p.held {
		if h := &p.held[i]; h.number == d.Number {
			h.token, h.index = max(h.token, d.Token), d.Index
			return
		}
	}
	p.held = append(p.held, hold{number: d.Number, token: d.Token, index: d.Index})
}

func (p *repo) settle(number, token uint64, at Tick) (change Live) {
	for i := range p.held {
		h := p.held[i]
		if h.number != number {
			continue
		}
		if h.token > token {
			// The packet was granted anew, so this settlement came too late to be taken.
			p.stale++
		}
		last := len(p.held) - 1
		p.held[i] = p.held[last]
		p.held = p.held[:last]
		return p.records[h.index].settle(at)
	}
	// The same settlement twice is fine.
	return Live{}
}

func (r *record) settle(at Tick) (change Live) {
	if r.is(markSettled) {
		return Live{}
	}
	change = Live{Settled: 1, Open: -one(r.is(markAcked) && !r.is(markDead))}
	r.word |= markSettled
	r.settled = at
	return change
}

func (p *repo) dead(number uint64) (change Live) {
	for i := range p.records {
		rec := &p.records[i]
		if rec.number() != number || rec.is(markDead) {
			continue
		}
		change.Open -= one(rec.is(markAcked) && !rec.is(markSettled))
		rec.word |= markDead
	}
	return change
}
