package client

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const modelLease = 300 * time.Millisecond

// leaseWorld is a book, a relay with one repository, and a stream between them
// that keeps its order until it breaks.
type leaseWorld struct {
	t    *rapid.T
	now  time.Duration
	book *book

	// The relay.
	settledTo uint64 // everything up to here is done
	token     uint64
	grant     []uint64 // what is left of the open grant
	until     time.Duration
	last      up // the settlement that was applied last

	uplink   []up
	downlink []down

	began   map[string]bool // token/sequence
	done    map[uint64]bool // handled to the end at least once
	running *Delivery
}

type up struct {
	sequence, token uint64
	outcome         outcome // 0: a renewal
	at              time.Duration
}

type down struct {
	delivery *Delivery
	answer   *up
	err      *Error
}

const modelRepo = "repo"

func (w *leaseWorld) expire() {
	if w.token > 0 && len(w.grant) > 0 && w.now >= w.until {
		w.grant = nil
	}
}

func (w *leaseWorld) doGrant(n int) {
	w.expire()
	if len(w.grant) > 0 {
		return
	}
	w.token++
	w.until = w.now + modelLease
	for i := range n {
		w.grant = append(w.grant, w.settledTo+uint64(i)+1)
	}
	w.hand(false)
}

// hand sends the open grant.
func (w *leaseWorld) hand(again bool) {
	for _, s := range w.grant {
		w.downlink = append(w.downlink, down{delivery: &Delivery{
			RepoID: modelRepo, Sequence: s, LeaseToken: w.token, Redelivered: again, lease: modelLease,
		}})
	}
}

// relayTakes has the relay take the oldest request; unknown answers so.
func (w *leaseWorld) relayTakes(unknown bool) bool {
	if len(w.uplink) == 0 {
		return false
	}
	u := w.uplink[0]
	w.uplink = w.uplink[1:]
	w.expire()
	err := w.decide(u)
	if unknown && u.outcome != 0 {
		err = &Error{Code: CodeUnknown}
	}
	w.downlink = append(w.downlink, down{answer: &u, err: err})
	return true
}

func (w *leaseWorld) decide(u up) *Error {
	stale := &Error{Code: CodeStaleLease}
	switch {
	case u.outcome == outcomeDone && u.sequence <= w.settledTo, u.outcome != 0 && w.last == (up{sequence: u.sequence, token: u.token, outcome: u.outcome}):
		return nil // the same settlement twice is fine
	case u.token != w.token || len(w.grant) == 0:
		return stale
	case u.outcome == 0:
		w.until = w.now + modelLease
		return nil
	case u.sequence != w.grant[0]:
		w.t.Fatalf("packet %d is settled, the head is %d: settled out of order, or past a failure", u.sequence, w.grant[0])
	}
	w.last = up{sequence: u.sequence, token: u.token, outcome: u.outcome}
	if u.outcome == outcomeRetry {
		w.grant = nil
		return nil
	}
	w.settledTo = u.sequence
	w.grant = w.grant[1:]
	return nil
}

func (w *leaseWorld) workerTakes() bool {
	if len(w.downlink) == 0 {
		return false
	}
	d := w.downlink[0]
	w.downlink = w.downlink[1:]
	w.book.expire(w.now)
	switch {
	case d.delivery != nil:
		w.book.deliver(w.now, w.book.lane([]byte(modelRepo)), d.delivery)
	case d.answer.outcome == 0:
		if l := w.book.lanes[modelRepo]; l != nil {
			w.book.renewed(l, d.answer.token, d.err)
		}
	default:
		if l := w.book.lanes[modelRepo]; l != nil {
			w.book.settled(w.now, l, d.answer.sequence, d.err)
		}
	}
	return true
}

func (w *leaseWorld) begin() bool {
	l := w.book.lanes[modelRepo]
	if l == nil {
		return false
	}
	d := l.take()
	if d == nil {
		return false
	}
	if l.lost || w.running != nil {
		w.t.Fatalf("packet %d began under a lost lease (%v), or beside another", d.Sequence, l.lost)
	}
	key := fmt.Sprintf("%d/%d", d.LeaseToken, d.Sequence)
	if w.began[key] {
		w.t.Fatalf("packet %s began twice", key)
	}
	if d.Sequence > 1 && !w.done[d.Sequence-1] {
		w.t.Fatalf("packet %d began before the one before it was done", d.Sequence)
	}
	w.began[key], w.running = true, d
	return true
}

func (w *leaseWorld) end(o outcome) bool {
	if w.running == nil {
		return false
	}
	d := w.running
	w.running = nil
	w.done[d.Sequence] = w.done[d.Sequence] || o == outcomeDone
	if !w.book.finish(w.book.lanes[modelRepo], settlement{outcome: o}) {
		// Not settled: the relay may give it once more under the same grant.
		delete(w.began, fmt.Sprintf("%d/%d", d.LeaseToken, d.Sequence))
	}
	return true
}

// send sends what the worker's sender would.
func (w *leaseWorld) send() bool {
	w.book.expire(w.now)
	dirty := w.book.dirty
	w.book.dirty = nil
	sent := false
	for _, l := range dirty {
		if w.now < l.again {
			w.book.dirty = append(w.book.dirty, l)
			continue
		}
		l.dirty = false
		for i := range l.settlements {
			s := &l.settlements[i]
			if !s.sent {
				s.sent, sent = true, true
				w.uplink = append(w.uplink, up{sequence: s.sequence, token: s.token, outcome: s.outcome})
			}
		}
		w.book.drop(l)
	}
	w.book.renewals(w.now, func(l *heldLane) {
		sent = true
		w.uplink = append(w.uplink, up{token: l.token, at: w.now})
	})
	return sent
}

func (w *leaseWorld) cut() {
	w.uplink, w.downlink = nil, nil
	w.book.reconnected(w.now)
	w.expire()
	w.hand(true)
}

func (w *leaseWorld) check() {
	l := w.book.lanes[modelRepo]
	if l == nil {
		return
	}
	open := 0
	for _, l := range w.book.lanes {
		open += len(l.settlements)
	}
	if open != w.book.open {
		w.t.Fatalf("%d settlements are open, the book counts %d", open, w.book.open)
	}
}

// TestBookKeepsOrderAndLeases drives a book against a relay that grants, takes
// leases back and answers UNKNOWN, over a stream that breaks.
func TestBookKeepsOrderAndLeases(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &leaseWorld{t: t, book: newBook(), began: make(map[string]bool), done: make(map[uint64]bool)}
		for range rapid.IntRange(1, 300).Draw(t, "actions") {
			switch rapid.IntRange(0, 13).Draw(t, "action") {
			case 0, 1:
				w.doGrant(rapid.IntRange(1, 5).Draw(t, "batch"))
			case 2, 3, 4:
				w.workerTakes()
			case 5, 6:
				w.begin()
			case 7, 8:
				w.end(rapid.SampledFrom([]outcome{outcomeDone, outcomeDone, outcomeDone, outcomeRetry}).Draw(t, "outcome"))
			case 9, 10:
				w.send()
			case 11:
				w.relayTakes(rapid.IntRange(0, 5).Draw(t, "unknown") == 0)
			case 12:
				w.now += time.Duration(rapid.IntRange(1, 200).Draw(t, "ms")) * time.Millisecond
				w.book.expire(w.now)
			case 13:
				w.cut()
			}
			w.check()
		}
		// Once nothing goes wrong any more, everything held is settled.
		for n := 0; ; n++ {
			if n > 10_000 {
				t.Fatal("it does not come to an end")
			}
			if w.relayTakes(false) || w.workerTakes() || w.begin() || w.end(outcomeDone) {
				continue
			}
			w.now += 10 * time.Millisecond
			if !w.send() && len(w.book.lanes) == 0 {
				break
			}
		}
		if w.book.open != 0 || len(w.book.dirty) != 0 {
			t.Fatalf("%d settlements are open, %d lanes dirty, and no lane is held", w.book.open, len(w.book.dirty))
		}
	})
}

func TestLeaseCountsFromSendingTheRenewal(t *testing.T) {
	b := newBook()
	l := b.lane([]byte(modelRepo))
	b.deliver(0, l, &Delivery{Sequence: 1, LeaseToken: 7, lease: modelLease})
	sent := modelLease / 3
	b.renewals(sent, func(*heldLane) {})
	b.renewals(2*sent, func(*heldLane) {}) // a second one, as the first has no answer
	b.renewed(l, 7, nil)
	if l.until != sent+modelLease {
		t.Errorf("the lease lasts until %v, want %v: from the first renewal's sending", l.until, sent+modelLease)
	}
	b.renewed(l, 7, nil)
	if want := 2*sent + modelLease; l.until != want {
		t.Errorf("the lease lasts until %v, want %v", l.until, want)
	}
	b.expire(l.until - 1)
	if l.lost {
		t.Error("the lease was lost before its end")
	}
	b.expire(l.until)
	if len(b.lanes) != 0 {
		t.Error("the lease outlived its end")
	}
}

func TestGrantOfTheSameRepositoryWaitsForTheHandler(t *testing.T) {
	b := newBook()
	l := b.lane([]byte(modelRepo))
	b.deliver(0, l, &Delivery{Sequence: 1, LeaseToken: 7, lease: modelLease})
	l.take()
	b.deliver(1, l, &Delivery{Sequence: 1, LeaseToken: 9, lease: modelLease})
	if l.take() != nil {
		t.Fatal("a second handler began beside the first")
	}
	if b.finish(l, settlement{outcome: outcomeRetry}) {
		t.Error("a failure under a lease that was lost is settled")
	}
	if d := l.take(); d == nil || d.LeaseToken != 9 {
		t.Errorf("then begins %+v, want the new grant's", d)
	}
	if b.deliver(2, l, &Delivery{Sequence: 2, LeaseToken: 7, lease: modelLease}) {
		t.Error("a delivery of the older grant was taken")
	}
}
