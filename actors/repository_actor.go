package actors

import (
	"runtime/debug"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/waystation/waystation/actors/intake"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

// waiter is a resend that waits for the outcome of the first.
type waiter struct {
	sink  Sink
	index uint64
	id    string
}

type flight = intake.Flight[waiter]

// packetRef is a packet that waits for an entry.
type packetRef struct {
	in       *inbound
	at       int32
	resident *resident
	flight   *flight
}

// repositoryActor is one incarnation of a repository's actor. All it has is its
// filter: what it forgets by dying, the applied state knows.
type repositoryActor struct {
	r      *resident
	filter *intake.Filter[waiter]
}

func newRepositoryActor(r *resident) *repositoryActor {
	return &repositoryActor{r: r, filter: intake.NewFilter[waiter](r.partition.relay.cfg.InFlight, r.blind)}
}

// Receive handles one message.
func (a *repositoryActor) Receive(ctx actor.Context) {
	defer a.guard()
	switch m := ctx.Message().(type) {
	case *offer:
		a.receive(m)
	case *flight:
		a.resolve(m)
	case passivate:
		a.passivate(ctx)
	case *actor.Restarting, *actor.Stopping:
		a.abandon(refusedUnknown)
	case *actor.Stopped:
		a.r.partition.actors.remove(a.r)
	}
}

// guard answers the resends that wait in the filter when a message panics: they
// need not wait for the restart. The filter is thrown away, because nobody knows
// what it is in the midst of. It panics on: the supervisor must know.
func (a *repositoryActor) guard() {
	reason := recover()
	if reason == nil {
		return
	}
	a.r.partition.relay.logger.Error("repository actor panicked",
		"repository", string(a.r.repo), "reason", reason, "stack", string(debug.Stack()))
	a.abandon(refusedPanic)
	a.r.blind = true
	a.filter = newRepositoryActor(a.r).filter
	panic(reason)
}

// passivate stops the actor if nothing is lost by it.
func (a *repositoryActor) passivate(ctx actor.Context) {
	a.r.passing.Store(false)
	if a.filter.Idle() && a.r.partition.queued(a.r) == 0 && a.r.mailbox.CloseIfIdle() {
		ctx.Stop(ctx.Self())
	}
}

// resolve takes the outcomes of an entry, as a chain of flights.
func (a *repositoryActor) resolve(first *flight) {
	for fl := first; fl != nil; {
		next := fl.Next
		a.filter.Resolve(fl, a.answer)
		fl = next
	}
	a.r.attached.Store(int32(a.filter.Waiting()))
}

// answer gives one resend the outcome of the first.
func (a *repositoryActor) answer(w waiter, o intake.Outcome) {
	res := PublishResult{Index: w.index, Repo: a.r.repo, ID: []byte(w.id), Refusal: outcomeRefusal(&o)}
	m := a.r.partition.relay.metrics
	if res.Refusal == nil {
		res.Seq, res.Duplicate, res.ContentDiffers = o.Result.Seq, true, o.Result.ContentDiffers
		m.deduplicated.Inc()
	} else {
		m.refused(res.Refusal, 1)
	}
	w.sink.Results([]PublishResult{res})
}

// abandon answers the resends that wait in the filter, before it is thrown away.
func (a *repositoryActor) abandon(refusal *Refusal) {
	a.filter.Abandon(func(w waiter) {
		a.r.partition.relay.metrics.refused(refusal, 1)
		w.sink.Results([]PublishResult{{Index: w.index, Repo: a.r.repo, ID: []byte(w.id), Refusal: refusal}})
	})
	a.r.attached.Store(0)
}

// turn is the handling of one offer. Each packet is in exactly one of three
// places: among the results, among the queued ones, or in the chain from at on.
type turn struct {
	actor   *repositoryActor
	offer   *offer
	at      int32
	results []PublishResult
	unsure  []PublishResult // right only if this node still leads
	queued  []packetRef
	freed   int // bytes of packets that were answered
	dropped int // references to the frame
	sound   bool
}

// receive answers or queues each packet of an offer, exactly once, whatever
// happens on the way.
func (a *repositoryActor) receive(o *offer) {
	relay := a.r.partition.relay
	t, _ := relay.turns.Get().(*turn)
	if t == nil {
		t = &turn{}
	}
	*t = turn{actor: a, offer: o, at: o.head, results: t.results[:0], unsure: t.unsure[:0], queued: t.queued[:0]}
	defer t.end()
	for t.at != end {
		if relay.onPacket != nil {
			relay.onPacket(string(a.r.repo), o.in.packet(t.at))
		}
		t.judge()
	}
	t.push()
	t.sound = true
}

// judge decides about the next packet.
func (t *turn) judge() {
	a, in, i := t.actor, t.offer.in, t.at
	p := in.packet(i)
	view := intake.Packet{ID: p.ID, ContentCRC: p.CRC}
	if p.HasPosition {
		view.Producer, view.Epoch, view.Sequence = p.Producer, p.Epoch, p.Sequence
	}
	v, err := a.filter.Offer(&view, a.r)
	if err != nil {
		a.r.partition.relay.logger.Error("applied state could not be read", "partition", a.r.partition.id, "error", err)
		t.settle(in.result(i, refusedInternal))
		return
	}
	switch v.Action {
	case intake.Propose:
		t.at = in.next[i]
		t.queued = append(t.queued, packetRef{in: in, at: i, resident: a.r, flight: v.Flight})
	case intake.Attach:
		w := waiter{sink: in.sink, index: in.frame.index(i), id: string(p.ID)}
		a.filter.Attach(v.Flight, p.CRC, w)
		t.leave(p)
	case intake.Busy:
		t.settle(in.result(i, refusedInFlight.after(a.r.partition.relay.retryDrained(a.r))))
	case intake.Answer:
		res := in.result(i, refusalOf(v.Result.Code, v.Result.Expected))
		if res.Refusal == nil {
			res.Seq, res.Duplicate, res.ContentDiffers = v.Result.Seq, true, v.Result.ContentDiffers
		}
		if code := v.Result.Code; code == repository.Gap || code == repository.UnknownProducer {
			t.doubt(res)
			return
		}
		t.settle(res)
	}
}

// settle answers the packet in hand.
func (t *turn) settle(res PublishResult) {
	p := t.offer.in.packet(t.at)
	t.results = append(t.results, res)
	t.leave(p)
}

// doubt answers the packet in hand with what is missing here. A leader that was
// deposed and has not heard of it says that too, of positions that the next one
// has accepted; whoever sent the packet would give that number to another one. So
// the answer waits until a majority has confirmed this leader.
func (t *turn) doubt(res PublishResult) {
	t.unsure = append(t.unsure, res)
	t.freed += charge(t.offer.in.packet(t.at))
	t.at = t.offer.in.next[t.at]
}

// confirm gives the answers that this node may give only while it leads.
func (t *turn) confirm() {
	if len(t.unsure) == 0 {
		return
	}
	in, relay, list := t.offer.in, t.actor.r.partition.relay, slices.Clone(t.unsure)
	clear(t.unsure)
	t.actor.r.partition.Barrier(func(err error) {
		if err != nil {
			for i := range list {
				list[i].Refusal = refusedNotLeader
			}
		}
		relay.give(in.sink, list)
		in.drop(len(list))
	})
}

// leave goes on to the next packet: this one needs its bytes only until the
// results are given.
func (t *turn) leave(p *wire.Packet) {
	t.freed += charge(p)
	t.dropped++
	t.at = t.offer.in.next[t.at]
}

// push queues what must be proposed, or answers it if the partition is closed.
func (t *turn) push() {
	if len(t.queued) == 0 {
		return
	}
	if refusal := t.actor.r.partition.push(t.queued); refusal != nil {
		t.refuseQueued(refusal)
		return
	}
	t.emptyQueued()
}

func (t *turn) refuseQueued(refusal *Refusal) {
	for i := range t.queued {
		q := &t.queued[i]
		if q.flight != nil {
			q.flight.Outcome = intake.Outcome{Failure: intake.NotProposed}
			t.actor.filter.Resolve(q.flight, t.actor.answer)
		}
		t.results = append(t.results, q.in.result(q.at, refusal))
		t.freed += charge(q.in.packet(q.at))
		t.dropped++
	}
	t.emptyQueued()
}

func (t *turn) emptyQueued() {
	clear(t.queued)
	t.queued = t.queued[:0]
}

// end gives the answers. If the turn did not get to its end, because it panicked,
// what has none is refused; the actor's guard does the rest.
func (t *turn) end() {
	a, in := t.actor, t.offer.in
	relay := a.r.partition.relay
	if !t.sound {
		t.fail()
	}
	a.r.attached.Store(int32(a.filter.Waiting()))
	relay.give(in.sink, t.results)
	t.confirm()
	relay.intake.release(a.r, t.freed)
	in.drop(t.dropped + 1)
	clear(t.results)
	t.actor, t.offer = nil, nil
	relay.turns.Put(t)
}

// fail refuses all that is neither answered nor queued.
func (t *turn) fail() {
	for i := range t.queued {
		q := &t.queued[i]
		t.results = append(t.results, q.in.result(q.at, refusedPanic))
		t.freed += charge(q.in.packet(q.at))
		t.dropped++
	}
	t.emptyQueued()
	for t.at != end {
		t.settle(t.offer.in.result(t.at, refusedPanic))
	}
}

// Position implements intake.State.
func (r *resident) Position(producer []byte) (epoch, last uint64, known bool, err error) {
	err = r.partition.View(func(m *repository.Machine) error {
		epoch, last, known, err = m.Position(r.repo, producer)
		return err
	})
	return epoch, last, known, err
}

// Receipt implements intake.State.
func (r *resident) Receipt(producer []byte, epoch, sequence uint64) (seq repository.Seq, code repository.Code, err error) {
	err = r.partition.View(func(m *repository.Machine) error {
		seq, code, err = m.Receipt(r.repo, producer, epoch, sequence)
		return err
	})
	return seq, code, err
}

// FindID implements intake.State.
func (r *resident) FindID(id []byte) (seq repository.Seq, contentCRC uint32, found bool, err error) {
	err = r.partition.View(func(m *repository.Machine) error {
		seq, contentCRC, found, err = m.FindID(r.repo, id)
		return err
	})
	return seq, contentCRC, found, err
}
