package actors

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waystation/waystation/actors/intake"
)

// Offer takes a frame in. Each of its packets is answered once through sink, now
// or later; f.Release is called when the frame's bytes are not needed any more.
// Offer validates the packets itself. It does not block but for the microseconds
// in which a passivated actor makes room for its next incarnation.
func (r *Relay) Offer(f *Frame, sink Sink) {
	in := r.newInbound(f, sink)
	defer in.drop(1)
	in.group(&r.cfg.Limits, r.cfg.HashSeed)
	defer func() { r.give(sink, in.results) }()
	if r.draining.Load() {
		for i := range in.offers {
			in.refuseRest(in.offers[i].head, refusedStopping)
		}
		return
	}
	if len(in.offers) == 0 {
		return
	}
	in.locate()
	r.intake.reserve(in)
	for i := range in.offers {
		if o := &in.offers[i]; o.count > 0 {
			in.post(o)
		}
	}
}

// give counts and hands out answers of one frame.
func (r *Relay) give(sink Sink, rs []PublishResult) {
	if len(rs) == 0 {
		return
	}
	refused := refusalCount{metrics: r.metrics}
	duplicates := 0
	for i := range rs {
		if rs[i].Refusal != nil {
			refused.add(rs[i].Refusal)
		} else {
			duplicates++ // what is answered without an entry was accepted before
		}
	}
	refused.flush()
	if duplicates > 0 {
		r.metrics.deduplicated.Add(float64(duplicates))
	}
	sink.Results(rs)
}

// locate finds the residents. An offer that has none is refused and emptied.
func (in *inbound) locate() {
	r := in.relay
	for i := range in.offers {
		o := &in.offers[i]
		p := r.partitions[rangeOf(o.hash, len(r.partitions))]
		x, refusal := p.actors.find(o.hash, in.packet(o.head).Repo)
		if refusal != nil {
			in.refuseRest(o.head, refusal)
			o.count, o.bytes = 0, 0
			continue
		}
		o.resident = x
	}
}

// refuseRest answers the packets of a chain from at on.
func (in *inbound) refuseRest(at int32, refusal *Refusal) {
	for ; at != end; at = in.next[at] {
		in.results = append(in.results, in.result(at, refusal))
	}
}

// post hands an offer to its actor. From a successful TryPost on it is the
// actor's.
func (in *inbound) post(o *offer) {
	r, x := in.relay, o.resident
	x.used.Store(int64(in.arrived))
	in.refs.Add(int32(o.count) + 1)
	for {
		err := x.mailbox.TryPost(o, o.count, o.bytes)
		if err == nil {
			return
		}
		var refusal *Refusal
		if errors.Is(err, ErrMailboxClosed) {
			// Its actor is going. There is no next one before it is gone, or two would answer
			// for one repository.
			<-x.done
			next, why := x.partition.actors.find(o.hash, x.repo)
			if why == nil {
				r.intake.move(x, next, o.bytes)
				o.resident, x = next, next
				continue
			}
			refusal = why
		} else {
			refusal = refusedMailbox.after(r.retryDrained(x))
		}
		in.refuseRest(o.head, refusal)
		r.intake.release(x, o.bytes)
		in.refs.Add(int32(-o.count - 1)) // Offer itself holds one
		return
	}
}

// refuse answers the packets of an offer that was admitted and is not handled.
func (o *offer) refuse(refusal *Refusal) {
	in, x := o.in, o.resident
	rs := make([]PublishResult, 0, o.count)
	for at := o.head; at != end; at = in.next[at] {
		rs = append(rs, in.result(at, refusal))
	}
	in.relay.give(in.sink, rs)
	in.relay.intake.release(x, o.bytes)
	in.drop(o.count + 1)
}

// intakeBudget is the node's intake.Budget with its lock and the measured rate at
// which it drains.
type intakeBudget struct {
	mu     sync.Mutex
	budget intake.Budget
	rate   float64 // bytes a second
	at     time.Duration
	bytes  atomic.Int64 // drained since at
}

func (b *intakeBudget) init(limit int) { b.budget = intake.NewBudget(limit) }

func (b *intakeBudget) used() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.budget.Used()
}

// reserve charges a frame's offers, under one lock. An offer that has no room as a
// whole keeps the packets in front that have; the others are refused.
func (b *intakeBudget) reserve(in *inbound) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range in.offers {
		o := &in.offers[i]
		if o.count == 0 || b.budget.ReserveAll(&o.resident.holding, o.bytes) {
			continue
		}
		b.reserveSome(in, o)
	}
}

func (b *intakeBudget) reserveSome(in *inbound, o *offer) {
	count, bytes, last, at := 0, 0, int32(end), o.head
	for at != end {
		n := charge(in.packet(at))
		if !b.budget.Reserve(&o.resident.holding, n) {
			break
		}
		count, bytes, last = count+1, bytes+n, at
		at = in.next[at]
	}
	wait := b.budget.RetryAfter(&o.resident.holding, o.bytes-bytes, b.rate)
	in.refuseRest(at, refusedBudget.after(wait))
	o.count, o.bytes, o.tail = count, bytes, last
	if last != end {
		in.next[last] = end
	}
}

func (b *intakeBudget) release(r *resident, n int) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.budget.Release(&r.holding, n)
}

func (b *intakeBudget) releaseGroups(groups []sentGroup) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range groups {
		b.budget.Release(&groups[i].resident.holding, groups[i].bytes)
	}
}

// move hands what one incarnation holds to the next. The bytes stay charged.
func (b *intakeBudget) move(from, to *resident, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.budget.Move(&from.holding, &to.holding, n)
}

func (b *intakeBudget) drained(n int) { b.bytes.Add(int64(n)) }

// measure updates the rate. A quiet time says nothing about how fast a full
// intake would drain.
func (b *intakeBudget) measure(now time.Duration) {
	n := b.bytes.Swap(0)
	b.mu.Lock()
	defer b.mu.Unlock()
	passed := (now - b.at).Seconds()
	b.at = now
	if n == 0 || passed <= 0 {
		return
	}
	const weight = 0.3
	b.rate += weight * (float64(n)/passed - b.rate)
}

// retryDrained is when a resident's queue is likely to be half as long.
func (r *Relay) retryDrained(x *resident) time.Duration {
	r.intake.mu.Lock()
	defer r.intake.mu.Unlock()
	return r.intake.budget.RetryDrained(&x.holding, r.intake.rate)
}
