package intake

import (
	"slices"

	"github.com/waystation/waystation/actors/repository"
)

// State is the partition's applied state, as far as a Filter asks it about its
// repository. Its answers may lag behind what was proposed, never be ahead of it.
type State interface {
	// Position is the newest epoch and sequence that were accepted of a producer.
	Position(producer []byte) (epoch, last uint64, known bool, err error)
	// Receipt is what a position got: Duplicate with its number, or another code
	// when there is none.
	Receipt(producer []byte, epoch, sequence uint64) (repository.Seq, repository.Code, error)
	// FindID is the number and the content's checksum of the packet that has an id.
	FindID(id []byte) (seq repository.Seq, contentCRC uint32, found bool, err error)
}

// Packet is what a Filter needs to know of a packet. Its slices are not kept.
type Packet struct {
	ID         []byte
	Producer   []byte // empty: no position
	Epoch      uint64
	Sequence   uint64
	ContentCRC uint32
}

// Action is what must become of a packet.
type Action uint8

// The actions.
const (
	Propose Action = iota // queue it, and give the verdict's Flight back to Resolve
	Answer                // the verdict's Result is its outcome
	Attach                // it is in flight: give the verdict's Flight to Attach
	Busy                  // too many in flight: refuse, to be sent again
)

// Verdict is the answer of Offer.
type Verdict[W any] struct {
	Action Action
	Flight *Flight[W] // with Propose it is nil if nobody can ask for the packet again
	Result repository.PublishResult
}

// Filter answers for one repository what need not be proposed. W is what the
// caller wants back of a resend that waits for the first one's outcome.
type Filter[W any] struct {
	limit     int  // in flight per producer, and attached in all
	blind     bool // something may fly that it does not know
	producers map[string]*producer[W]
	order     []*producer[W] // as they came: which is dropped first
	latest    *producer[W]
	ids       map[string]*Flight[W]
	out       int          // flights that are not resolved
	waiting   int          // attached resends
	awaited   []*Flight[W] // that have any
	free      []*Flight[W]
}

// NewFilter returns a filter that allows limit packets of a producer in flight.
// blind says that it replaces one that was thrown away with packets in flight:
// then it must not refuse a producer as unknown, because the state may be about
// to know it.
func NewFilter[W any](limit int, blind bool) *Filter[W] {
	return &Filter[W]{limit: limit, blind: blind}
}

// Idle says that nothing is in flight: the filter may be thrown away for free.
func (f *Filter[W]) Idle() bool { return f.out == 0 }

// Waiting is the number of attached resends.
func (f *Filter[W]) Waiting() int { return f.waiting }

// Offer judges a packet. An error is the state's, and leaves the packet unjudged.
func (f *Filter[W]) Offer(p *Packet, st State) (Verdict[W], error) {
	switch {
	case len(p.Producer) > 0:
		return f.offerPosition(p, st)
	case len(p.ID) > 0:
		return f.offerID(p, st)
	}
	return Verdict[W]{Action: Propose}, nil
}

func (f *Filter[W]) offerID(p *Packet, st State) (Verdict[W], error) {
	if first, ok := f.ids[string(p.ID)]; ok {
		return f.attachable(first), nil
	}
	seq, crc, found, err := st.FindID(p.ID)
	if err != nil {
		return Verdict[W]{}, err
	}
	if found {
		return answer[W](repository.PublishResult{
			Code: repository.Duplicate, Seq: seq, ContentDiffers: crc != p.ContentCRC,
		}), nil
	}
	fl := f.fly(p)
	fl.id = string(p.ID)
	if f.ids == nil {
		f.ids = make(map[string]*Flight[W])
	}
	f.ids[fl.id] = fl
	return Verdict[W]{Action: Propose, Flight: fl}, nil
}

func answer[W any](r repository.PublishResult) Verdict[W] {
	return Verdict[W]{Action: Answer, Result: r}
}

func (f *Filter[W]) attachable(first *Flight[W]) Verdict[W] {
	if f.waiting >= f.limit {
		return Verdict[W]{Action: Busy}
	}
	return Verdict[W]{Action: Attach, Flight: first}
}

// Attach makes a resend wait for the outcome of first, which Offer has just
// named. contentCRC is the resend's.
func (f *Filter[W]) Attach(first *Flight[W], contentCRC uint32, w W) {
	f.waiting++
	if len(first.attached) == 0 {
		f.awaited = append(f.awaited, first)
	}
	first.attached = append(first.attached, attached[W]{w, contentCRC})
}

// Resolve takes a flight back whose Outcome is known, and hands each resend that
// was attached to it its own. The flight must not be used any more. One of
// another filter is ignored: that filter was thrown away, and Abandon answered.
func (f *Filter[W]) Resolve(fl *Flight[W], give func(w W, o Outcome)) {
	if fl.owner != f {
		return
	}
	f.out--
	f.giveAttached(fl, give)
	if x := fl.producer; x != nil {
		x.land(fl)
	} else if f.ids[fl.id] == fl {
		delete(f.ids, fl.id)
	}
	f.recycle(fl)
}

// Abandon hands every attached resend back: the filter is thrown away, and must
// not be used any more. The flights stay with the entries that carry them.
func (f *Filter[W]) Abandon(give func(w W)) {
	for _, fl := range f.awaited {
		for i := range fl.attached {
			give(fl.attached[i].waiter)
		}
		fl.attached = nil
	}
	f.awaited, f.waiting = nil, 0
}

func (f *Filter[W]) giveAttached(fl *Flight[W], give func(w W, o Outcome)) {
	if len(fl.attached) == 0 {
		return
	}
	i := slices.Index(f.awaited, fl)
	f.awaited = slices.Delete(f.awaited, i, i+1)
	for i := range fl.attached {
		a := &fl.attached[i]
		o := fl.Outcome
		if o.accepted() {
			o.Result.Code = repository.Duplicate
			if fl.producer == nil {
				// Compared with the first one in flight, which may be a duplicate itself: then
				// what was stored is another content if either comparison says so.
				o.Result.ContentDiffers = o.Result.ContentDiffers || a.crc != fl.crc
			}
		}
		f.waiting--
		give(a.waiter, o)
	}
}
