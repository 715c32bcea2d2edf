package intake

import "github.com/waystation/waystation/actors/repository"

// producer is what is in flight of one producer in its newest epoch, as a row:
// flights[head+i] has the sequence first+i.
type producer[W any] struct {
	name    string
	known   bool // epoch, first and the row hold
	epoch   uint64
	first   uint64
	flights []*Flight[W]
	head    int
	row     uint64 // from 1: 0 stands for none
	out     int    // flights of any row that are not resolved
}

func (x *producer[W]) expected() uint64 { return x.first + uint64(len(x.flights)-x.head) }

// begin starts a new row. The flights of the old one are on their way all the
// same, but nothing attaches to them any more.
func (x *producer[W]) begin(epoch, first uint64) {
	clear(x.flights)
	x.flights, x.head = x.flights[:0], 0
	x.row++
	x.epoch, x.first, x.known = epoch, first, true
}

// forget makes the next packet ask the applied state again.
func (x *producer[W]) forget() {
	x.begin(0, 0)
	x.known = false
}

// land notes an outcome. Anything but the acceptance of the row's first flight
// means that what is believed of the producer may be wrong: what flies behind
// will be refused by Apply, and the state says where to go on.
func (x *producer[W]) land(fl *Flight[W]) {
	x.out--
	switch {
	case fl.row != x.row: // of a row that is over
	case !fl.Outcome.accepted() || x.flights[x.head] != fl:
		x.forget()
	default:
		x.shift()
	}
}

func (x *producer[W]) shift() {
	x.flights[x.head] = nil
	x.head++
	x.first++
	switch {
	case x.head == len(x.flights):
		x.flights, x.head = x.flights[:0], 0
	case x.head >= 64 && x.head > len(x.flights)/2:
		n := copy(x.flights, x.flights[x.head:])
		clear(x.flights[n:])
		x.flights, x.head = x.flights[:n], 0
	}
}

// offerPosition judges by the position alone. A known id is no answer here: the
// packet must pass Apply all the same, or the producer's position stands still.
func (f *Filter[W]) offerPosition(p *Packet, st State) (Verdict[W], error) {
	x, err := f.producerOf(p.Producer, st)
	if err != nil {
		return Verdict[W]{}, err
	}
	return f.judge(x, p, st)
}

func (f *Filter[W]) judge(x *producer[W], p *Packet, st State) (Verdict[W], error) {
	switch {
	case !x.known && p.Sequence != 1 && (f.blind || x.out > 0):
		// Its first packets may be on their way all the same.
		return f.proposeApart(x, p), nil
	case !x.known && p.Sequence != 1:
		// Nothing was accepted of it and nothing flies that could be. To propose it
		// would only have the packet that really has this number attach to its refusal.
		return answer[W](repository.PublishResult{Code: repository.UnknownProducer}), nil
	case !x.known || p.Epoch > x.epoch && p.Sequence == 1:
		// The first that is heard of this producer or epoch. Whether it may be the first
		// is for Apply to say: it alone knows what else is on its way.
		if x.out < f.limit {
			x.begin(p.Epoch, p.Sequence)
		}
	case p.Epoch > x.epoch:
		return f.offerGap(x, p, st, 1)
	case p.Epoch < x.epoch:
		return f.offerOld(x, p, st)
	case p.Sequence < x.first:
		return f.offerApplied(x, p, st)
	case p.Sequence < x.expected():
		return f.attachable(x.flights[x.head+int(p.Sequence-x.first)]), nil
	case p.Sequence > x.expected():
		return f.offerGap(x, p, st, x.expected())
	}
	if x.out >= f.limit {
		return Verdict[W]{Action: Busy}, nil
	}
	fl := f.flyFor(x, p)
	fl.row = x.row
	x.flights = append(x.flights, fl)
	return Verdict[W]{Action: Propose, Flight: fl}, nil
}

// offerGap refuses what leaves a gap, unless the state is further than the row. It
// can be, after a failure: flights of the row before were accepted all the same.
// To ask for one of them again would be to ask for what its sender, having its
// receipt, does not have any more.
func (f *Filter[W]) offerGap(x *producer[W], p *Packet, st State, expected uint64) (Verdict[W], error) {
	epoch, last, known, err := st.Position(p.Producer)
	switch {
	case err != nil:
		return Verdict[W]{}, err
	case known && (epoch > x.epoch || epoch == x.epoch && last >= x.expected()):
		x.begin(epoch, last+1)
		return f.judge(x, p, st) // and not here again: the row is as far as the state
	}
	return answer[W](repository.PublishResult{Code: repository.Gap, Expected: expected}), nil
}

// offerOld refuses a lower epoch once the higher one is a fact; one that is only
// in flight may still be refused itself.
func (f *Filter[W]) offerOld(x *producer[W], p *Packet, st State) (Verdict[W], error) {
	epoch, _, known, err := st.Position(p.Producer)
	if err != nil {
		return Verdict[W]{}, err
	}
	if known && epoch > p.Epoch {
		return answer[W](repository.PublishResult{Code: repository.Fenced}), nil
	}
	return f.proposeApart(x, p), nil
}

// offerApplied repeats the receipt of a position that is not in flight any more.
func (f *Filter[W]) offerApplied(x *producer[W], p *Packet, st State) (Verdict[W], error) {
	seq, code, err := st.Receipt(p.Producer, p.Epoch, p.Sequence)
	if err != nil {
		return Verdict[W]{}, err
	}
	if code == repository.Duplicate || code == repository.TooOld || code == repository.Fenced {
		return answer[W](repository.PublishResult{Code: code, Seq: seq}), nil
	}
	return f.proposeApart(x, p), nil
}

// proposeApart proposes a packet outside of its producer's row, because the state
// gave no positive answer: Apply decides, and nothing attaches to it.
func (f *Filter[W]) proposeApart(x *producer[W], p *Packet) Verdict[W] {
	if x.out >= f.limit {
		return Verdict[W]{Action: Busy}
	}
	return Verdict[W]{Action: Propose, Flight: f.flyFor(x, p)}
}

func (f *Filter[W]) flyFor(x *producer[W], p *Packet) *Flight[W] {
	fl := f.fly(p)
	fl.producer = x
	x.out++
	return fl
}

// maxProducers bounds what is kept of producers that have nothing in flight:
// each process that ever sends is one.
const maxProducers = 16

// producerOf returns what is known of a producer; from the applied state, if
// nothing else is.
func (f *Filter[W]) producerOf(name []byte, st State) (*producer[W], error) {
	x := f.latest
	if x == nil || x.name != string(name) {
		x = f.producers[string(name)]
	}
	if x == nil || !x.known {
		epoch, last, known, err := st.Position(name)
		if err != nil {
			return nil, err
		}
		if x == nil {
			x = f.addProducer(string(name))
		}
		if known {
			x.begin(epoch, last+1)
		}
	}
	f.latest = x
	return x, nil
}

func (f *Filter[W]) addProducer(name string) *producer[W] {
	if f.producers == nil {
		f.producers = make(map[string]*producer[W], 1)
	}
	if len(f.order) >= maxProducers {
		f.dropProducer()
	}
	x := &producer[W]{name: name, row: 1}
	f.producers[name] = x
	f.order = append(f.order, x)
	return x
}

func (f *Filter[W]) dropProducer() {
	for i, x := range f.order {
		if x.out > 0 {
			continue
		}
		delete(f.producers, x.name)
		f.order = append(f.order[:i], f.order[i+1:]...)
		if f.latest == x {
			f.latest = nil
		}
		return
	}
}
