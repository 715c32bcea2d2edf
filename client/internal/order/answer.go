package order

// Verdict is what an answer says about one try.
type Verdict uint8

// The verdicts.
const (
	// Accepted: the packet has its receipt.
	Accepted Verdict = iota
	// Refused for good: the packet can never be accepted.
	Refused
	// Busy: this try was refused for load; a later one may be accepted.
	Busy
	// Away: nobody was there to take this try; a later one may be accepted.
	Away
	// Unknown: this try may have been accepted.
	Unknown
	// Gap: a number before this one was not accepted, so this one was not.
	Gap
	// UnknownProducer: the server has no record of the producer.
	UnknownProducer
	// Fenced: the server has a record under a higher epoch.
	Fenced
)

// Answer is what came back for a try.
type Answer struct {
	Verdict Verdict
	// Expected is the number that a Gap asks for.
	Expected uint64
	// DelayMs is how long the server asks to wait before the next try.
	DelayMs int64
}

// Answer takes the answer to the open try of key, and says whether the packet
// ended with it. Otherwise it will be sent again, unless it was withdrawn: then
// Ended has it once it was not accepted.
func (l *Lane[T]) Answer(key uint64, a Answer) (payload T, ended bool) {
	e := l.q.find(key)
	if e == nil || e.state != open {
		return payload, false
	}
	l.open--
	e.state = queued
	l.delayMs = max(l.delayMs, a.DelayMs)
	payload = e.payload
	switch a.Verdict {
	case Accepted:
		l.accept(e)
		return payload, true
	case Refused:
		l.end(e)
		l.pop()
		return payload, true
	case Unknown:
		e.maybe = true
		l.refused = true
		if !e.resendable {
			l.end(e)
			l.pop()
			return payload, true
		}
	case Busy:
		l.slow()
		l.refused = true
	case Away:
		l.refused = true
	case Gap:
		l.gap(e, a.Expected)
	case UnknownProducer:
		e.maybe = false
		// While the first number has no receipt, there is no record because it was
		// refused: it is sent again. Later the record is lost, and only another
		// epoch can go on.
		if l.q.at(l.q.head).seq <= 1 {
			l.refused = true
		} else {
			l.hole = true
		}
	case Fenced:
		l.fenced, l.hole = true, true
	}
	l.resolve()
	if e.unwanted && !e.maybe {
		l.done = append(l.done, Ended[T]{Payload: payload})
		l.end(e)
		l.pop()
	}
	return payload, false
}

func (l *Lane[T]) accept(e *entry[T]) {
	l.accepted = true
	if l.credit++; l.credit >= l.limit && l.limit < MaxOpen {
		// Half of it in each round trip: a lane that was cut to the least is back
		// within a dozen.
		l.limit = min(MaxOpen, l.limit+l.limit/2)
		l.credit = 0
	}
	l.finish(e)
	l.pop()
}

// slow halves the limit, once a round: the refusals of one round have one cause.
func (l *Lane[T]) slow() {
	if !l.cut {
		l.cut = true
		l.limit = max(minLimit, min(l.limit, l.peak)/2)
		l.credit = 0
	}
}

// gap: what the server expects lies before this number, so it was not accepted.
// If it expects one that we have the receipt of, it lost what it knew (a restore),
// and the numbers must begin anew.
func (l *Lane[T]) gap(e *entry[T], expected uint64) {
	if expected <= e.seq {
		e.maybe = false
	}
	if oldest := l.q.at(l.q.head).seq; oldest != 0 && expected < oldest {
		l.hole = true
	}
}

// Lost ends all open tries: their outcome is unknown.
func (l *Lane[T]) Lost() {
	if l.open == 0 {
		return
	}
	for key := l.q.head; key < l.q.tail; key++ {
		e := l.q.at(key)
		if e.state != open {
			continue
		}
		e.state, e.maybe = queued, true
		if !e.resendable {
			l.done = append(l.done, Ended[T]{Payload: e.payload, Maybe: true})
			l.end(e)
		}
	}
	l.open, l.lost = 0, true
	l.pop()
	l.resolve()
}

// GiveUp ends the queued packets for which old says so. It looks at them in
// order, up to the first that is not old.
func (l *Lane[T]) GiveUp(old func(T) bool) {
	for key := l.q.head; key < l.q.tail; key++ {
		e := l.q.at(key)
		if e.state == ended {
			continue
		}
		if !old(e.payload) {
			break
		}
		if e.state == queued {
			l.done = append(l.done, Ended[T]{Payload: e.payload, Maybe: e.maybe})
			l.end(e)
		}
	}
	l.pop()
}

// Stop ends everything, for good: open and queued packets are handed out by
// Ended, and nothing is sent any more.
func (l *Lane[T]) Stop() {
	for key := l.q.head; key < l.q.tail; key++ {
		if e := l.q.at(key); e.state != ended {
			l.done = append(l.done, Ended[T]{Payload: e.payload, Maybe: e.maybe || e.state == open})
			l.finish(e)
		}
	}
	l.open, l.mode = 0, stopped
	l.pop()
}

// Ended hands the packets out that ended without an answer of their own, once.
func (l *Lane[T]) Ended() []Ended[T] {
	d := l.done
	l.done = nil
	return d
}
