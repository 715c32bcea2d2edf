package client

import (
	"context"
	"slices"
	"time"
)

// The book is what a worker holds: grants, their deliveries, and settlements
// that have no answer yet. It has no goroutine, no clock and no IO; times are
// durations on a monotonic clock that the caller reads. What keeps order and
// leases right in a worker is decided here:
//
//   - deliveries of one repository run one at a time, in the order granted;
//   - a failure ends its grant: the rest is dropped unsettled, and comes back
//     uncharged in another grant (PROTOCOL 3.3);
//   - a grant that comes again after a lost connection (same token) adds only
//     what is not known of it, so that nothing runs twice under one lease;
//   - a lease counts from the sending of the renewal that prolonged it, so that it
//     ends here before it can end at the relay. Only its first length counts from
//     the delivery; one that comes again is renewed at once.
type book struct {
	lanes map[string]*heldLane
	free  []*heldLane
	open  int // settlements without an answer
	tick  time.Duration
	dirty []*heldLane // with settlements that are not sent
	// over has the newest grant of repositories that failed or was lost in this
	// session, though nothing of it is held any more: what else comes of it must
	// not run, for what stands before it did not get done.
	over map[string]uint64
}

// heldLane is what the worker holds of one repository.
type heldLane struct {
	repo    string
	token   uint64 // of the newest grant
	queue   []*Delivery
	current *Delivery // in the handler
	broken  bool      // the grant had a failure
	lost    bool      // the grant's lease can no longer be held
	regain  bool      // lost in a session before: it may come again

	length  time.Duration   // of a lease
	until   time.Duration   // when the lease may have ended
	renewAt time.Duration   // when to send the next renewal
	asked   []time.Duration // when the renewals without an answer were sent

	settlements []settlement // without an answer, in the order of their ends
	again       time.Duration
	dirty       bool
	runnable    bool
	next        *heldLane

	ctx    context.Context // of the newest grant's handlers; nil before the first
	cancel context.CancelCauseFunc
}

type outcome uint8

// The values are those of the wire.
const (
	outcomeDone  outcome = 1
	outcomeRetry outcome = 2
	outcomeDead  outcome = 3
)

type settlement struct {
	sequence, token uint64
	outcome         outcome
	message         string
	result          []byte
	after           time.Duration // with a retry: no attempt before
	sent            bool
}

const (
	minTick = 5 * time.Millisecond
	maxTick = 2 * time.Second
)

// maxOver bounds what is remembered of grants that are over.
const maxOver = 1 << 16

func newBook() *book {
	return &book{lanes: make(map[string]*heldLane), over: make(map[string]uint64), tick: maxTick}
}

// lane returns the lane of a repository, a new one if need be.
func (b *book) lane(repo []byte) *heldLane {
	if l := b.lanes[string(repo)]; l != nil {
		return l
	}
	l := &heldLane{}
	if n := len(b.free); n > 0 {
		l, b.free = b.free[n-1], b.free[:n-1]
	}
	l.repo = string(repo)
	b.lanes[l.repo] = l
	return l
}

// deliver takes a delivery of the lane's repository, and says whether it is one
// to be worked off.
func (b *book) deliver(now time.Duration, l *heldLane, d *Delivery) bool {
	if d.LeaseToken < l.token || d.LeaseToken <= b.over[l.repo] {
		b.drop(l)
		return false // of a grant that is over
	}
	if d.LeaseToken > l.token || l.regain {
		b.begin(now, l, d)
	}
	if l.broken || l.lost || l.knows(d.Sequence) {
		b.drop(l)
		return false
	}
	l.queue = append(l.queue, d)
	return true
}

// begin starts a grant, or starts one again that was thought to be lost.
func (b *book) begin(now time.Duration, l *heldLane, d *Delivery) {
	if d.LeaseToken > l.token {
		if l.token > 0 {
			b.lose(l) // the relay has ended the one before
		}
		l.token, l.broken = d.LeaseToken, false
	}
	l.ctx, l.cancel = nil, nil // the old one has ended
	l.lost, l.regain = false, false
	l.length = max(d.lease, 3*minTick)
	b.tick = min(b.tick, max(l.length/6, minTick))
	l.until, l.asked = now+l.length, nil
	l.renewAt = now + l.length/3
	if d.Redelivered {
		l.renewAt = now // it began we do not know when
	}
}

// knows says whether a delivery of the newest grant is here already.
func (l *heldLane) knows(sequence uint64) bool {
	if l.current != nil && l.current.Sequence == sequence && l.current.LeaseToken == l.token {
		return true
	}
	for _, d := range l.queue {
		if d.Sequence == sequence {
			return true
		}
	}
	for i := range l.settlements {
		if s := &l.settlements[i]; s.sequence == sequence && s.token == l.token {
			return true
		}
	}
	return false
}

// lose ends a lane's grant: what waits is dropped, a handler told.
func (b *book) lose(l *heldLane) {
	l.queue, l.lost, l.regain = nil, true, false
	b.close(l)
	if l.cancel != nil {
		l.cancel(ErrLeaseLost)
	}
}

// take gives the next delivery to a handler, if none runs.
func (l *heldLane) take() *Delivery {
	if l.current != nil || len(l.queue) == 0 {
		return nil
	}
	d := l.queue[0]
	l.queue[0] = nil
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		l.queue = nil
	}
	l.current = d
	return d
}

// finish ends the delivery in the handler, and says whether it is to be settled.
func (b *book) finish(l *heldLane, s settlement) bool {
	d := l.current
	l.current = nil
	s.sequence, s.token = d.Sequence, d.LeaseToken
	stale := d.LeaseToken != l.token || l.lost
	if s.outcome != outcomeDone && !stale {
		l.broken, l.queue = true, nil
		b.close(l)
	}
	if stale && s.outcome != outcomeDone {
		b.drop(l)
		return false // the relay takes it back by itself
	}
	// A done is worth a try even so: if the lease did live on, no second run.
	l.settlements = append(l.settlements, s)
	b.open++
	b.mark(l)
	return true
}

// close remembers that the lane's newest grant is over.
func (b *book) close(l *heldLane) {
	if len(b.over) >= maxOver {
		clear(b.over) // better than to grow: tokens still fence
	}
	b.over[l.repo] = l.token
}

func (b *book) mark(l *heldLane) {
	if !l.dirty {
		l.dirty = true
		b.dirty = append(b.dirty, l)
	}
}

// settled takes the answer to a settlement, and returns its token.
func (b *book) settled(now time.Duration, l *heldLane, sequence uint64, err *Error) (token uint64, ended bool) {
	at := slices.IndexFunc(l.settlements, func(s settlement) bool { return s.sequence == sequence && s.sent })
	if at < 0 {
		return 0, false
	}
	s := &l.settlements[at]
	token = s.token
	if err != nil && err.Retriable() {
		s.sent = false
		l.again = max(l.again, now+max(err.RetryAfter, minTick))
		b.mark(l)
		return token, false
	}
	if err != nil && token == l.token {
		b.lose(l)
	}
	l.settlements = slices.Delete(l.settlements, at, at+1)
	b.open--
	b.drop(l)
	return token, true
}

// renewed takes the answer to a renewal.
func (b *book) renewed(l *heldLane, token uint64, err *Error) {
	if token != l.token || len(l.asked) == 0 {
		return
	}
	sent := l.asked[0]
	l.asked = l.asked[1:]
	switch {
	case err == nil:
		l.until = max(l.until, sent+l.length)
	case !err.Retriable():
		b.lose(l)
		b.drop(l)
	}
}

// renewals visits the lanes whose lease is to be renewed now.
func (b *book) renewals(now time.Duration, visit func(l *heldLane)) {
	for _, l := range b.lanes {
		if l.lost || now < l.renewAt || l.broken && len(l.settlements) == 0 {
			continue
		}
		l.asked = append(l.asked, now)
		l.renewAt = now + l.length/3
		visit(l)
	}
}

// expire ends the leases that can no longer be held.
func (b *book) expire(now time.Duration) {
	for _, l := range b.lanes {
		if !l.lost && now >= l.until {
			b.lose(l)
			b.drop(l)
		}
	}
}

// reconnected has everything sent again that has no answer.
func (b *book) reconnected(now time.Duration) {
	clear(b.over) // what is open comes again, and as a whole
	for _, l := range b.lanes {
		l.regain = l.lost
		l.asked, l.renewAt, l.again = nil, now, 0
		for i := range l.settlements {
			l.settlements[i].sent = false
			b.mark(l)
		}
	}
}

// drop forgets a lane of which nothing is left.
func (b *book) drop(l *heldLane) {
	if b.lanes[l.repo] != l {
		return // forgotten before
	}
	if len(l.queue) > 0 || l.current != nil || len(l.settlements) > 0 || l.dirty || l.runnable {
		return
	}
	if l.cancel != nil {
		l.cancel(nil)
	}
	delete(b.lanes, l.repo)
	*l = heldLane{settlements: l.settlements[:0]}
	if len(b.free) < 1024 {
		b.free = append(b.free, l)
	}
}
