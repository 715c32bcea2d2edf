package lease

import (
	"cmp"
	"slices"
	"time"

	"github.com/waystation/waystation/actors/repository"
)

// Outcome is what a worker says of one packet.
type Outcome uint8

// The outcomes, as the public API numbers them.
const (
	Done  Outcome = 1
	Retry Outcome = 2
	Dead  Outcome = 3
)

// Verdict is what a Batch makes of one settlement.
type Verdict uint8

// The verdicts.
const (
	// Taken: it waits for its step; the ticket is answered by Applied or Failed.
	Taken Verdict = iota
	// Repeated: it was settled so before, and that is durable.
	Repeated
	// Conflict: it was settled otherwise before.
	Conflict
	// Foreign: the lease does not hold such a packet.
	Foreign
	// Over: the packet goes back, because the lease ended before it.
	Over
)

// maxStepBytes bounds the results and the error text of one step, so that one
// settlement is not an entry of 32 MiB. One result may exceed it alone.
const maxStepBytes = 512 << 10

// Item is one packet under a lease.
type Item struct {
	repository.GrantedItem
	// HandedAt is when it was handed out, on the caller's clock.
	HandedAt time.Duration

	done   bool   // settled as done; through says whether durably so
	freed  bool   // its credit was given back
	result []byte // a repository.Left, encoded
}

// Answer is what a ticket is answered with.
type Answer[T any] struct {
	Ticket T
	Seq    repository.Seq
	// Over: it did not take effect and the packet goes back, because the lease
	// ended before it.
	Over bool
}

type waiter[T any] struct {
	ticket T
	at     int
}

// Step is one settlement to propose. Its slices are the batch's: they stay as
// they are until Applied or Failed.
type Step struct {
	// ID tells this step from the batch's others, for Current.
	ID      uint32
	Through repository.Seq // 0: nothing new is done
	Kind    repository.SettleKind
	Failed  repository.Seq
	Error   []byte
	AfterMs uint64 // with SettleRetry: the least delay that the worker asks for
	Results []repository.SettleResult
}

// Why is what a worker says with a failure.
type Why struct {
	Text    []byte
	AfterMs uint64 // with Retry: the least delay before the next attempt
}

// Batch is one lease's packets in order. T is the caller's ticket for one
// settlement. The zero value holds nothing; use Reset.
type Batch[T any] struct {
	items   []Item
	handed  int // items before it were handed out
	through int // items before it are settled, durably
	stop    int // items from it on are not handed out, and go back
	fail    int // the item that failed; -1: none. Then it is stop, too
	outcome Outcome
	why     Why
	steps   uint32
	flying  bool // a step is under way
	step    int  // items before it are done with that step
	failing bool // that step reports the failure
	over    bool // the lease ended
	idle    bool // nobody leads: nothing is handed out
	rest    bool // of a lease whose first packets were settled before Reset
	waiters []waiter[T]
	results []repository.SettleResult
}

// Reset makes b the batch of a new lease. It copies items.
func (b *Batch[T]) Reset(items []repository.GrantedItem) {
	*b = Batch[T]{items: make([]Item, len(items)), stop: len(items), fail: -1}
	for i := range items {
		b.items[i].GrantedItem = items[i]
	}
}

// Inherit says that the batch is what is left of a lease: what it does not hold
// below its first packet was settled under it.
func (b *Batch[T]) Inherit() { b.rest = true }

// Len is the number of packets in the lease.
func (b *Batch[T]) Len() int { return len(b.items) }

// Over says whether the lease ended.
func (b *Batch[T]) Over() bool { return b.over }

// Hand marks the next packet handed out at now and returns it. The item is valid
// until Reset; the caller must not change it.
func (b *Batch[T]) Hand(now time.Duration) (it *Item, at int, ok bool) {
	for b.handed < b.stop && b.hands() {
		at, it = b.handed, &b.items[b.handed]
		b.handed++
		if !it.done {
			it.HandedAt = now
			return it, at, true
		}
	}
	return nil, 0, false
}

func (b *Batch[T]) hands() bool { return !b.over && !b.idle }

// Pending is the number of packets that Hand has still to give.
func (b *Batch[T]) Pending() (n int) {
	for i := b.handed; i < b.stop && b.hands(); i++ {
		if !b.items[i].done {
			n++
		}
	}
	return n
}

// Rewind hands every packet out again that its worker has not settled: it came
// back and may not have got them. All of them count as held again; held is how many.
func (b *Batch[T]) Rewind() (held int) {
	b.handed = b.through
	for i := b.through; i < b.stop && b.hands(); i++ {
		if !b.items[i].done {
			b.items[i].freed = false
			held++
		}
	}
	return held
}

// Ref is where a packet of the lease lies; ok is false if it holds no such packet.
func (b *Batch[T]) Ref(seq repository.Seq) (ref repository.Ref, ok bool) {
	at, ok := b.find(seq)
	if !ok {
		return ref, false
	}
	return b.items[at].Ref, true
}

// Settle takes a worker's outcome of one packet. It keeps why and result until
// the lease is over. freed is the number of packets whose credit is free now:
// the packet itself, and with a failure those that go back.
func (b *Batch[T]) Settle(seq repository.Seq, o Outcome, why Why, result []byte, ticket T) (v Verdict, freed int) {
	at, ok := b.find(seq)
	switch {
	case !ok && b.rest && at == 0 && o == Done:
		return Repeated, 0
	case !ok:
		return Foreign, 0
	}
	if said := b.said(at); said != 0 {
		switch {
		case said != o:
			return Conflict, 0
		case b.durable(at):
			return Repeated, 0
		}
		return b.take(at, ticket), 0
	}
	if b.over || at >= b.stop {
		return Over, 0
	}
	freed = b.free(at)
	if o == Done {
		b.items[at].done, b.items[at].result = true, result
	} else {
		freed += b.failAt(at, o, why)
	}
	return b.take(at, ticket), freed
}

// said is what was settled of the item before; 0: nothing that still counts.
func (b *Batch[T]) said(at int) Outcome {
	switch {
	case at == b.fail:
		return b.outcome
	case at < b.through, at < b.stop && b.items[at].done:
		return Done
	}
	return 0
}

func (b *Batch[T]) durable(at int) bool { return at < b.through || b.over && at == b.fail }

func (b *Batch[T]) take(at int, ticket T) Verdict {
	if b.over {
		return Over
	}
	b.waiters = append(b.waiters, waiter[T]{ticket, at})
	return Taken
}

func (b *Batch[T]) free(at int) int {
	if b.items[at].freed {
		return 0
	}
	b.items[at].freed = true
	return 1
}

func (b *Batch[T]) freeAll() (held, unseen int) {
	for i := range b.items {
		switch {
		case b.free(i) == 0:
		case i < b.handed:
			held++
		default:
			unseen++
		}
	}
	return held, unseen
}

func (b *Batch[T]) find(seq repository.Seq) (at int, ok bool) {
	return slices.BinarySearchFunc(b.items, seq, func(it Item, s repository.Seq) int {
		return cmp.Compare(it.Seq, s)
	})
}

func (b *Batch[T]) failAt(at int, o Outcome, why Why) (freed int) {
	b.fail, b.outcome, b.why = at, o, why
	return b.stopAt(at)
}

func (b *Batch[T]) stopAt(at int) (freed int) {
	b.stop = min(b.stop, at)
	for i := b.stop; i < len(b.items); i++ {
		freed += b.free(i)
	}
	return freed
}

// Lose gives up a packet that cannot be handed out: it fails as if the worker
// had said so. Nothing happens if the lease ends before it.
func (b *Batch[T]) Lose(at int, o Outcome, text []byte) (freed int) {
	if b.over || at >= b.stop || b.items[at].done {
		return 0
	}
	return b.failAt(at, o, Why{Text: text})
}

// Release lets everything that was not handed out go back, once what was is
// settled.
func (b *Batch[T]) Release() (freed int) {
	if b.over || b.handed >= b.stop {
		return 0
	}
	if b.fail > b.handed {
		b.fail = -1
	}
	return b.stopAt(b.handed)
}

// GiveUp lets everything go back from the first packet on that is not settled,
// handed out or not: the worker says that it will not run it.
func (b *Batch[T]) GiveUp() (freed int) {
	if b.over {
		return 0
	}
	at := max(b.through, b.step)
	for at < b.stop && b.items[at].done {
		at++
	}
	if at == b.stop {
		return 0
	}
	if b.fail > at {
		b.fail = -1
	}
	return b.stopAt(at)
}

// Stranded appends the tickets of settlements that cannot take effect any more,
// because the lease ends before their packets, and forgets them.
func (b *Batch[T]) Stranded(dst []Answer[T]) []Answer[T] {
	kept := b.waiters[:0]
	for _, w := range b.waiters {
		if w.at < b.stop || w.at == b.fail {
			kept = append(kept, w)
			continue
		}
		dst = append(dst, b.answer(w, true))
	}
	b.waiters = kept
	return dst
}

func (b *Batch[T]) answer(w waiter[T], over bool) Answer[T] {
	return Answer[T]{Ticket: w.ticket, Seq: b.items[w.at].Seq, Over: over}
}

// Next returns the next step, if there is one and none is under way.
func (b *Batch[T]) Next() (s Step, ok bool) {
	if b.flying || b.over {
		return Step{}, false
	}
	to := b.prefix()
	ends := to == b.stop && b.stop < len(b.items)
	if to == b.through && !ends {
		return Step{}, false
	}
	if to > b.through {
		s.Through = b.items[to-1].Seq
	}
	b.results = b.results[:0]
	for i := b.through; i < to; i++ {
		if len(b.items[i].result) > 0 {
			b.results = append(b.results, repository.SettleResult{Seq: b.items[i].Seq, Result: b.items[i].result})
		}
	}
	s.Results = b.results
	b.steps++
	s.ID = b.steps
	b.step, b.flying, b.failing = to, true, ends && b.fail >= 0
	switch {
	case !ends:
		s.Kind = repository.SettleDone
	case b.fail < 0:
		s.Kind = repository.SettleRelease
	default:
		s.Kind, s.Failed, s.Error, s.AfterMs = repository.SettleRetry, b.items[b.fail].Seq, b.why.Text, b.why.AfterMs
		if b.outcome == Dead {
			s.Kind, s.AfterMs = repository.SettleDead, 0
		}
	}
	return s, true
}

// prefix is how far the next step may settle, within the step's bytes.
func (b *Batch[T]) prefix() (to int) {
	size := 0
	for to = b.through; to < b.stop && b.items[to].done; to++ {
		size += len(b.items[to].result)
		if size > maxStepBytes && to > b.through {
			break
		}
	}
	return to
}

// Flying says whether a step is under way.
func (b *Batch[T]) Flying() bool { return b.flying }

// Current says whether the step with this ID is still under way. If it is not, it
// was given up by End or Suspend, and its tickets were answered.
func (b *Batch[T]) Current(id uint32) bool { return b.flying && b.steps == id }

// Ends says whether the step under way ends the lease with every packet done.
func (b *Batch[T]) Ends() bool { return b.flying && b.step == len(b.items) }

// Applied reports that the step under way took effect, and whether that ended
// the lease. It appends the answers to the tickets that this decides, and
// returns the items that were settled now, a failed one with them.
func (b *Batch[T]) Applied(ended bool, dst []Answer[T]) (answers []Answer[T], settled []Item) {
	from, last := b.through, b.step
	if b.failing {
		last++
	}
	b.through, b.flying, b.over = b.step, false, ended
	kept := b.waiters[:0]
	for _, w := range b.waiters {
		switch {
		case w.at < last:
			dst = append(dst, b.answer(w, false))
		case b.over:
			dst = append(dst, b.answer(w, true))
		default:
			kept = append(kept, w)
		}
	}
	b.waiters = kept
	return dst, b.items[from:last]
}

// Suspend is for a partition that is led no more: the step under way fails, and
// what is held counts as in End. Nothing is handed out until Resume.
func (b *Batch[T]) Suspend(dst []Answer[T]) (answers []Answer[T], held, unseen int) {
	dst = b.Failed(dst)
	held, unseen = b.freeAll()
	b.idle = true
	return dst, held, unseen
}

// Resume is for a partition that is led again, with the lease still open: first
// is its first unsettled packet. It returns how many are held again; what was
// not handed out will be.
func (b *Batch[T]) Resume(first repository.Seq) (held int) {
	b.idle = false
	b.through, _ = b.find(first)
	b.handed, b.stop = max(b.handed, b.through), len(b.items)
	for i := b.through; i < len(b.items); i++ {
		b.items[i].freed = false
		held++
	}
	return held
}

// Failed reports that the step under way did not, or perhaps did not, take
// effect. Every settlement that is not durable is forgotten and its ticket
// returned, so that the worker may send it again.
func (b *Batch[T]) Failed(dst []Answer[T]) []Answer[T] {
	b.flying, b.failing = false, false
	for i := b.through; i < len(b.items); i++ {
		b.items[i].done, b.items[i].result = false, nil
	}
	// What the worker has may be settled again; what it has not stays away, since
	// its credit is given back.
	b.fail, b.why, b.stop = -1, Why{}, max(b.stop, b.handed)
	for _, w := range b.waiters {
		dst = append(dst, b.answer(w, false))
	}
	b.waiters = b.waiters[:0]
	return dst
}

// End ends the lease: it ran out, or another holds the lane. It appends the
// tickets that are still open, and returns how many packets' credit was still
// held: unseen of packets that were never handed out, held of those that the
// worker has.
func (b *Batch[T]) End(dst []Answer[T]) (answers []Answer[T], held, unseen int) {
	b.over, b.flying = true, false
	held, unseen = b.freeAll()
	for _, w := range b.waiters {
		dst = append(dst, b.answer(w, true))
	}
	b.waiters = b.waiters[:0]
	return dst, held, unseen
}
