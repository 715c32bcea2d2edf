package order

// StepKind is what the caller must do next for a lane.
type StepKind uint8

// The steps.
const (
	// StepNone: nothing but to send what Peek gives.
	StepNone StepKind = iota
	// StepWait: wait at least DelayMs, longer with Failures, then Resume.
	StepWait
	// StepEpoch: get an epoch above Epoch(), then SetEpoch.
	StepEpoch
)

// Step is what the caller must do next.
type Step struct {
	Kind StepKind
	// Failures counts the rounds in a row without a receipt, from 1.
	Failures int
	// DelayMs is the longest delay that the server asked for.
	DelayMs int64
	// Fenced: the server knows a higher epoch than ours. If that is not one that
	// this process was given, another one sends under the same name: Stop.
	Fenced bool
}

// Step ends a round once all its tries are answered, and says what comes next.
func (l *Lane[T]) Step() Step {
	if l.mode == probing && l.open == 0 && l.peek() == nil {
		l.mode = resolving // every probe was accepted
	}
	if l.mode != resolving || l.open > 0 {
		return Step{}
	}
	if l.accepted {
		l.failures = 0
	}
	if !l.lost {
		l.failures++
	}
	s := Step{DelayMs: l.delayMs, Fenced: l.fenced, Failures: l.failures}
	// Whoever reconnects waits by itself; and a gap alone, the first time, has
	// nothing to wait for.
	atOnce := !l.refused && (l.accepted || l.lost || l.failures == 1)
	l.accepted, l.refused, l.lost, l.cut, l.delayMs, l.peak = false, false, false, false, 0, 0
	if l.fenced {
		l.endMaybe()
	}
	if l.q.len() == 0 && !l.hole {
		l.failures = 0
		l.goBack()
		return Step{}
	}
	if l.hole && l.positioned && !l.anyMaybe() {
		l.mode = waiting
		s.Kind = StepEpoch
		return s
	}
	if atOnce && s.DelayMs == 0 {
		l.goBack()
		return Step{}
	}
	l.mode = waiting
	s.Kind = StepWait
	return s
}

// Resume ends the wait of a StepWait.
func (l *Lane[T]) Resume() {
	if l.mode != waiting {
		return
	}
	if l.hole && l.positioned && !l.anyMaybe() {
		// A packet that was withdrawn or given up meanwhile left a hole.
		l.mode = resolving
		return
	}
	l.goBack()
}

// goBack sends again from the oldest packet that is not accepted; with a hole
// only what may have been accepted.
func (l *Lane[T]) goBack() {
	l.cursor = l.q.head
	l.mode = flowing
	if l.hole && l.positioned {
		l.mode = probing
		return
	}
	l.hole = false
}

// SetEpoch ends the wait of a StepEpoch: what is left is numbered from 1. An
// epoch that is not above the last one is ignored.
func (l *Lane[T]) SetEpoch(epoch uint64) {
	if l.mode != waiting || epoch <= l.epoch {
		return
	}
	l.epoch, l.next = epoch, 1
	l.hole, l.fenced = false, false
	for key := l.q.head; key < l.q.tail; key++ {
		l.q.at(key).seq = 0
	}
	l.goBack()
}

func (l *Lane[T]) anyMaybe() bool {
	for key := l.q.head; key < l.q.tail; key++ {
		if e := l.q.at(key); e.state == queued && e.maybe {
			return true
		}
	}
	return false
}

// endMaybe: under a higher epoch nobody can say any more whether a packet was
// accepted under the old one. To send it again could make it two.
func (l *Lane[T]) endMaybe() {
	for key := l.q.head; key < l.q.tail; key++ {
		if e := l.q.at(key); e.state == queued && e.maybe {
			l.done = append(l.done, Ended[T]{Payload: e.payload, Maybe: true})
			l.finish(e)
		}
	}
	l.pop()
}
