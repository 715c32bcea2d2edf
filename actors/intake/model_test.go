package intake

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/waystation/waystation/actors/repository"
)

// world is a naive model of everything around a filter: a log, Apply as PROTOCOL
// 2.3 and 2.4 have it, and clients that wait. The filter may be wrong in what it
// lets through; what is answered must never be.
type world struct {
	t         *rapid.T
	filter    *Filter[int]
	head      repository.Seq
	producers map[string]*account
	ids       map[string]known
	log       []proposal

	sent     []Packet // by waiter
	answered []int    // times
	numbers  map[string]repository.Seq
	unsure   bool
}

type account struct {
	epoch, last uint64
	seqs        map[uint64]repository.Seq
}

type known struct {
	seq repository.Seq
	crc uint32
}

// proposal is a packet in the log, which nobody but Apply looks into.
type proposal struct {
	p      Packet
	flight *Flight[int]
	waiter int
}

func (w *world) Position(producer []byte) (uint64, uint64, bool, error) {
	a := w.producers[string(producer)]
	if a == nil {
		return 0, 0, false, nil
	}
	return a.epoch, a.last, true, nil
}

func (w *world) Receipt(producer []byte, epoch, n uint64) (repository.Seq, repository.Code, error) {
	a := w.producers[string(producer)]
	switch {
	case a == nil || epoch > a.epoch || epoch == a.epoch && n > a.last:
		return 0, repository.OK, nil
	case epoch < a.epoch:
		return 0, repository.Fenced, nil
	}
	return a.seqs[n], repository.Duplicate, nil
}

func (w *world) FindID(id []byte) (repository.Seq, uint32, bool, error) {
	k, ok := w.ids[string(id)]
	return k.seq, k.crc, ok, nil
}

// apply is the naive Apply. full refuses the packet for the backlog.
func (w *world) apply(p *Packet, full bool) repository.PublishResult {
	a := w.producers[string(p.Producer)]
	if len(p.Producer) > 0 {
		switch {
		case a == nil && p.Sequence != 1:
			return repository.PublishResult{Code: repository.UnknownProducer}
		case a != nil && p.Epoch < a.epoch:
			return repository.PublishResult{Code: repository.Fenced}
		case a != nil && p.Epoch > a.epoch && p.Sequence != 1:
			return repository.PublishResult{Code: repository.Gap, Expected: 1}
		case a != nil && p.Epoch == a.epoch && p.Sequence <= a.last:
			return repository.PublishResult{Code: repository.Duplicate, Seq: a.seqs[p.Sequence]}
		case a != nil && p.Epoch == a.epoch && p.Sequence > a.last+1:
			return repository.PublishResult{Code: repository.Gap, Expected: a.last + 1}
		}
	}
	res := repository.PublishResult{Code: repository.OK}
	if k, ok := w.ids[string(p.ID)]; ok && len(p.ID) > 0 {
		res = repository.PublishResult{Code: repository.Duplicate, Seq: k.seq, ContentDiffers: k.crc != p.ContentCRC}
	} else if full {
		return repository.PublishResult{Code: repository.BacklogFull}
	} else {
		w.head++
		res.Seq = w.head
		if len(p.ID) > 0 {
			w.ids[string(p.ID)] = known{w.head, p.ContentCRC}
		}
	}
	if len(p.Producer) > 0 {
		if a == nil || p.Epoch > a.epoch {
			a = &account{epoch: p.Epoch, seqs: map[uint64]repository.Seq{}}
			w.producers[string(p.Producer)] = a
		}
		a.last++
		a.seqs[a.last] = res.Seq
	}
	return res
}

// send offers a packet as a new waiter.
func (w *world) send(p Packet) {
	waiter := len(w.sent)
	w.sent, w.answered = append(w.sent, p), append(w.answered, 0)
	v, err := w.filter.Offer(&p, w)
	if err != nil {
		w.t.Fatal(err)
	}
	switch v.Action {
	case Propose:
		w.log = append(w.log, proposal{p, v.Flight, waiter})
	case Attach:
		w.filter.Attach(v.Flight, p.ContentCRC, waiter)
	case Busy:
		w.answered[waiter]++
	case Answer:
		w.mustNotFollow(&p, v.Result)
		w.answer(waiter, Outcome{Result: v.Result})
	}
}

// mustNotFollow catches a refusal that the client would act upon wrongly: what is
// on its way to be accepted must not be refused as unknown or fenced, because the
// client would send it again under another epoch, and it would be stored twice.
func (w *world) mustNotFollow(p *Packet, r repository.PublishResult) {
	if r.Code != repository.UnknownProducer && r.Code != repository.Fenced {
		return
	}
	// What Apply would say, were everything in the log applied first.
	ghost := world{producers: map[string]*account{}, ids: map[string]known{}}
	for name, a := range w.producers {
		c := *a
		c.seqs = map[uint64]repository.Seq{}
		for k, v := range a.seqs {
			c.seqs[k] = v
		}
		ghost.producers[name] = &c
	}
	for i := range w.log {
		ghost.apply(&w.log[i].p, false)
	}
	if got := ghost.apply(p, false); got.Code == repository.OK || got.Code == repository.Duplicate {
		w.t.Fatalf("%s is refused with code %d, and would be accepted", show(p), r.Code)
	}
}

// answer gives a waiter its outcome, and holds it against what others got.
func (w *world) answer(waiter int, o Outcome) {
	w.answered[waiter]++
	if w.answered[waiter] > 1 {
		w.t.Fatalf("waiter %d was answered twice", waiter)
	}
	if !o.accepted() {
		return
	}
	p := &w.sent[waiter]
	if o.Result.Seq == 0 {
		w.t.Fatalf("%s was accepted without a number", show(p))
	}
	var names []string
	if len(p.Producer) > 0 {
		names = append(names, fmt.Sprintf("position %s/%d/%d", p.Producer, p.Epoch, p.Sequence))
	}
	if len(p.ID) > 0 {
		names = append(names, "id "+string(p.ID))
	}
	for _, name := range names {
		if seq, ok := w.numbers[name]; ok && seq != o.Result.Seq {
			w.t.Fatalf("%s got the numbers %d and %d", name, seq, o.Result.Seq)
		}
		w.numbers[name] = o.Result.Seq
	}
	if len(p.ID) > 0 && len(p.Producer) == 0 && !w.unsure {
		if first := w.ids[string(p.ID)]; (first.crc != p.ContentCRC) != o.Result.ContentDiffers {
			w.t.Fatalf("%s: content differs %v, stored %d", show(p), o.Result.ContentDiffers, first.crc)
		}
	}
}

// commit applies the first n proposals of the log, then tells the filter: as an
// entry does.
func (w *world) commit(n int, full func() bool) {
	entry := w.log[:n]
	w.log = w.log[n:]
	outcomes := make([]Outcome, n)
	for i := range entry {
		outcomes[i].Result = w.apply(&entry[i].p, full())
	}
	w.resolve(entry, outcomes)
}

func (w *world) resolve(entry []proposal, outcomes []Outcome) {
	for i := range entry {
		w.answer(entry[i].waiter, outcomes[i])
		if fl := entry[i].flight; fl != nil {
			fl.Outcome = outcomes[i]
			// What differs from a first one that differs itself may be what is stored: the
			// filter cannot know.
			w.unsure = outcomes[i].Result.ContentDiffers
			w.filter.Resolve(fl, w.answer)
			w.unsure = false
		}
	}
}

func show(p *Packet) string {
	return fmt.Sprintf("id %q position %s/%d/%d", p.ID, p.Producer, p.Epoch, p.Sequence)
}

// Whatever is sent, lost, refused or forgotten: each waiter is answered once, and
// no id or position ever gets two numbers.
func TestFilterAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{
			t: t, filter: NewFilter[int](rapid.IntRange(2, 12).Draw(t, "in flight"), false),
			producers: map[string]*account{}, ids: map[string]known{}, numbers: map[string]repository.Seq{},
		}
		name := rapid.SampledFrom([]string{"p", "q"})
		limit := w.filter.limit
		t.Repeat(map[string]func(*rapid.T){
			"row": func(t *rapid.T) { // some of a producer's, near where it stands
				producer := name.Draw(t, "producer")
				epoch, last, _, _ := w.Position([]byte(producer))
				epoch = max(1, epoch) + rapid.SampledFrom([]uint64{0, 0, 0, 0, 1}).Draw(t, "more epochs")
				from := rapid.Uint64Range(1, last+3).Draw(t, "from")
				for i := range rapid.Uint64Range(1, 6).Draw(t, "n") {
					p := Packet{Producer: []byte(producer), Epoch: epoch, Sequence: from + i}
					if p.Sequence%3 == 0 { // a resend has the same id
						p.ID = fmt.Append(nil, (p.Sequence+epoch)%5)
					}
					w.send(p)
				}
			},
			"old epoch": func(t *rapid.T) {
				producer := name.Draw(t, "producer")
				epoch, last, ok, _ := w.Position([]byte(producer))
				if ok && epoch > 1 {
					w.send(Packet{Producer: []byte(producer), Epoch: epoch - 1, Sequence: rapid.Uint64Range(1, last+1).Draw(t, "sequence")})
				}
			},
			"id": func(t *rapid.T) {
				w.send(Packet{
					ID:         fmt.Append(nil, rapid.IntRange(0, 6).Draw(t, "which")),
					ContentCRC: uint32(rapid.IntRange(0, 1).Draw(t, "content")),
				})
			},
			"plain": func(*rapid.T) { w.send(Packet{}) },
			"commit": func(t *rapid.T) {
				if len(w.log) > 0 {
					full := rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "full")
					w.commit(rapid.IntRange(1, len(w.log)).Draw(t, "n"), func() bool {
						return full == 2 || full == 1 && rapid.Bool().Draw(t, "refuse")
					})
				}
			},
			"drop": func(t *rapid.T) { // the log's end is certainly not proposed
				if len(w.log) > 0 {
					n := rapid.IntRange(1, len(w.log)).Draw(t, "n")
					entry := w.log[len(w.log)-n:]
					w.log = w.log[:len(w.log)-n]
					outcomes := make([]Outcome, n)
					for i := range outcomes {
						outcomes[i].Failure = NotProposed
					}
					w.resolve(entry, outcomes)
				}
			},
			"forget": func(*rapid.T) { // the actor dies
				w.filter.Abandon(func(waiter int) { w.answered[waiter]++ })
				w.filter = NewFilter[int](limit, true)
			},
			"": func(t *rapid.T) {
				if w.filter.Waiting() > limit {
					t.Fatalf("%d resends wait", w.filter.Waiting())
				}
				for _, x := range w.filter.order {
					if x.out > limit {
						t.Fatalf("%d packets of a producer are in flight, at most %d", x.out, limit)
					}
				}
			},
		})
		w.commit(len(w.log), func() bool { return false })
		for i, n := range w.answered {
			if n != 1 {
				t.Fatalf("waiter %d (%s) was answered %d times", i, show(&w.sent[i]), n)
			}
		}
		if !w.filter.Idle() || w.filter.Waiting() != 0 {
			t.Fatalf("in flight at the end: %d, waiting %d", w.filter.out, w.filter.Waiting())
		}
		w.finish(t, name)
	})
}

// finish is a patient client: whatever has gone on before, it gets on.
func (w *world) finish(t *rapid.T, name *rapid.Generator[string]) {
	producer := name.Draw(t, "last producer")
	epoch, last, _, _ := w.Position([]byte(producer))
	epoch = max(epoch, 1)
	for i := range uint64(3) {
		before := w.head
		w.send(Packet{Producer: []byte(producer), Epoch: epoch, Sequence: last + 1 + i})
		w.commit(len(w.log), func() bool { return false })
		if w.head != before+1 {
			t.Fatalf("position %d/%d was not accepted", epoch, last+1+i)
		}
	}
}
