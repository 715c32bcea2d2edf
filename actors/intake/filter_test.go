package intake

import (
	"errors"
	"fmt"
	"testing"

	"github.com/waystation/waystation/actors/repository"
)

// fixed is an applied state that a test writes down.
type fixed struct {
	epoch, last uint64
	known       bool
	receipts    map[uint64]repository.Seq
	ids         map[string]repository.Seq
	crc         uint32
	err         error
	asked       int
}

func (s *fixed) Position([]byte) (uint64, uint64, bool, error) {
	s.asked++
	return s.epoch, s.last, s.known, s.err
}

func (s *fixed) Receipt(_ []byte, epoch, n uint64) (repository.Seq, repository.Code, error) {
	switch seq, ok := s.receipts[n]; {
	case s.err != nil:
		return 0, repository.OK, s.err
	case epoch < s.epoch:
		return 0, repository.Fenced, nil
	case ok:
		return seq, repository.Duplicate, nil
	case n <= s.last:
		return 0, repository.TooOld, nil
	}
	return 0, repository.OK, nil
}

func (s *fixed) FindID(id []byte) (repository.Seq, uint32, bool, error) {
	seq, ok := s.ids[string(id)]
	return seq, s.crc, ok, s.err
}

func at(epoch, seq uint64) *Packet {
	return &Packet{Producer: []byte("p"), Epoch: epoch, Sequence: seq}
}

func (v Verdict[W]) String() string {
	switch v.Action {
	case Propose:
		return "propose"
	case Attach:
		return "attach"
	case Busy:
		return "busy"
	}
	switch r := v.Result; r.Code {
	case repository.Duplicate:
		return fmt.Sprintf("duplicate %d %v", r.Seq, r.ContentDiffers)
	case repository.Gap:
		return fmt.Sprintf("gap %d", r.Expected)
	default:
		return fmt.Sprintf("code %d", r.Code)
	}
}

// What the applied state and the packets in flight say of the next one.
func TestVerdicts(t *testing.T) {
	known := fixed{epoch: 3, last: 10, known: true, receipts: map[uint64]repository.Seq{9: 90, 10: 100}}
	for _, c := range []struct {
		name  string
		state fixed
		blind bool
		sent  []*Packet // proposed, and in flight
		p     *Packet
		want  string
	}{
		{"the next", known, false, nil, at(3, 11), "propose"},
		{"the next behind flights", known, false, []*Packet{at(3, 11), at(3, 12)}, at(3, 13), "propose"},
		{"a gap", known, false, nil, at(3, 13), "gap 11"},
		{"a gap behind flights", known, false, []*Packet{at(3, 11)}, at(3, 13), "gap 12"},
		{"accepted", known, false, nil, at(3, 9), "duplicate 90 false"},
		{"accepted, with flights", known, false, []*Packet{at(3, 11)}, at(3, 10), "duplicate 100 false"},
		{"accepted so long ago", known, false, nil, at(3, 2), fmt.Sprint("code ", repository.TooOld)},
		{"in flight", known, false, []*Packet{at(3, 11), at(3, 12)}, at(3, 11), "attach"},
		{"an old epoch", known, false, nil, at(2, 11), fmt.Sprint("code ", repository.Fenced)},
		{"a new epoch", known, false, nil, at(4, 1), "propose"},
		{"a new epoch from its midst", known, false, nil, at(4, 2), "gap 1"},
		{"the old epoch while the new one flies", known, false, []*Packet{at(4, 1)}, at(3, 11), "propose"},
		{"before the old epoch while the new one flies", known, false, []*Packet{at(4, 1)}, at(2, 11), fmt.Sprint("code ", repository.Fenced)},
		{"an unknown producer", fixed{}, false, nil, at(1, 1), "propose"},
		{"an unknown producer's second", fixed{}, false, []*Packet{at(1, 1)}, at(1, 2), "propose"},
		{"an unknown producer from its midst", fixed{}, false, nil, at(1, 5), fmt.Sprint("code ", repository.UnknownProducer)},
		{"the same, blind", fixed{}, true, nil, at(1, 5), "propose"},
		{"the same twice, blind", fixed{}, true, []*Packet{at(1, 5)}, at(1, 5), "propose"},
		{"neither id nor position", known, false, nil, &Packet{}, "propose"},
		{"a new id", known, false, nil, &Packet{ID: []byte("a")}, "propose"},
		{"an id in flight", known, false, []*Packet{{ID: []byte("a")}}, &Packet{ID: []byte("a")}, "attach"},
		{"a known id", fixed{ids: map[string]repository.Seq{"a": 5}, crc: 7}, false, nil, &Packet{ID: []byte("a"), ContentCRC: 7}, "duplicate 5 false"},
		{"a known id, other content", fixed{ids: map[string]repository.Seq{"a": 5}, crc: 7}, false, nil, &Packet{ID: []byte("a"), ContentCRC: 8}, "duplicate 5 true"},
		// Answered at once it would never reach Apply, and its position would stand still.
		{
			"a known id under a position",
			fixed{ids: map[string]repository.Seq{"a": 5}},
			false, nil,
			&Packet{ID: []byte("a"), Producer: []byte("p"), Epoch: 1, Sequence: 1}, "propose",
		},
	} {
		f := NewFilter[int](1024, c.blind)
		for i, p := range c.sent {
			if v, err := f.Offer(p, &c.state); err != nil || v.Action != Propose {
				t.Fatalf("%s: sent %d: %v %v", c.name, i, v, err)
			}
		}
		v, err := f.Offer(c.p, &c.state)
		if err != nil || v.String() != c.want {
			t.Errorf("%s: %v %v, want %s", c.name, v, err, c.want)
		}
	}
}

// A producer has so many in flight and no more; the next one is not lost behind
// the refusal, because what follows it is a gap.
func TestInFlightIsBounded(t *testing.T) {
	f, st := NewFilter[int](4, false), &fixed{}
	var flights []*Flight[int]
	for i := range uint64(4) {
		v, _ := f.Offer(at(1, i+1), st)
		flights = append(flights, v.Flight)
	}
	if v, _ := f.Offer(at(1, 5), st); v.Action != Busy {
		t.Errorf("the fifth of four: %v", v)
	}
	if v, _ := f.Offer(at(1, 6), st); v.String() != "gap 5" {
		t.Errorf("behind a refused one: %v", v)
	}
	flights[0].Outcome.Result = repository.PublishResult{Code: repository.OK, Seq: 1}
	f.Resolve(flights[0], nil)
	if v, _ := f.Offer(at(1, 5), st); v.Action != Propose {
		t.Errorf("the fifth, with room again: %v", v)
	}
}

// Resends that wait are bounded as well.
func TestAttachedAreBounded(t *testing.T) {
	f, st := NewFilter[int](3, false), &fixed{}
	first, _ := f.Offer(&Packet{ID: []byte("a"), ContentCRC: 1}, st)
	for i := range 3 {
		v, _ := f.Offer(&Packet{ID: []byte("a")}, st)
		if v.Action != Attach || v.Flight != first.Flight {
			t.Fatalf("resend %d: %v", i, v)
		}
		f.Attach(v.Flight, uint32(i), i)
	}
	if v, _ := f.Offer(&Packet{ID: []byte("a")}, st); v.Action != Busy || f.Waiting() != 3 {
		t.Errorf("the fourth resend: %v, %d wait", v, f.Waiting())
	}
	first.Flight.Outcome.Result = repository.PublishResult{Code: repository.OK, Seq: 8}
	got := ""
	f.Resolve(first.Flight, func(w int, o Outcome) {
		got += fmt.Sprint(w, ":", o.Result.Code == repository.Duplicate, o.Result.Seq, o.Result.ContentDiffers, " ")
	})
	if want := "0:true 8 true 1:true 8 false 2:true 8 true "; got != want || f.Waiting() != 0 || !f.Idle() {
		t.Errorf("answered %q, want %q; %d wait", got, want, f.Waiting())
	}
}

// After a refusal by Apply the state is asked where to go on; what flew behind
// it is on its own.
func TestRefusedFlightStartsAgain(t *testing.T) {
	f, st := NewFilter[int](1024, false), &fixed{epoch: 1, last: 4, known: true}
	a, _ := f.Offer(at(1, 5), st)
	b, _ := f.Offer(at(1, 6), st)
	waits, _ := f.Offer(at(1, 6), st)
	f.Attach(waits.Flight, 0, 77)
	a.Flight.Outcome.Result = repository.PublishResult{Code: repository.BacklogFull}
	f.Resolve(a.Flight, nil)
	if v, _ := f.Offer(at(1, 7), st); v.String() != "gap 5" {
		t.Errorf("behind a refused one: %v", v)
	}
	again, _ := f.Offer(at(1, 5), st)
	next, _ := f.Offer(at(1, 6), st)
	if again.Action != Propose || next.Action != Propose {
		t.Errorf("sent again: %v %v; the doomed one must not answer for them", again, next)
	}
	b.Flight.Outcome.Result = repository.PublishResult{Code: repository.Gap, Expected: 5}
	answered := 0
	f.Resolve(b.Flight, func(w int, o Outcome) {
		if answered++; w != 77 || o.Result.Code != repository.Gap {
			t.Errorf("the attached one got %d %+v", w, o)
		}
	})
	if answered != 1 {
		t.Errorf("the attached one was answered %d times", answered)
	}
	if v, _ := f.Offer(at(1, 7), st); v.Action != Propose {
		t.Errorf("the outcome of a doomed one disturbed its successor: %v", v)
	}
}

// A filter that is thrown away hands its resends back; flights that come home
// later are nobody's.
func TestAbandon(t *testing.T) {
	old, st := NewFilter[int](1024, false), &fixed{}
	pos, _ := old.Offer(at(1, 1), st)
	id, _ := old.Offer(&Packet{ID: []byte("a")}, st)
	old.Attach(pos.Flight, 0, 1)
	old.Attach(id.Flight, 0, 2)
	var got []int
	old.Abandon(func(w int) { got = append(got, w) })
	if fmt.Sprint(got) != "[1 2]" {
		t.Errorf("handed back %v", got)
	}
	f := NewFilter[int](1024, true)
	f.Resolve(pos.Flight, func(int, Outcome) { t.Error("answered for another filter") })
	if !f.Idle() {
		t.Error("took another filter's flight")
	}
}

// An error of the state is passed on, and the packet may be offered again.
func TestStateError(t *testing.T) {
	f, st := NewFilter[int](1024, false), &fixed{err: errors.New("disk")}
	for _, p := range []*Packet{at(1, 1), {ID: []byte("a")}} {
		if _, err := f.Offer(p, st); !errors.Is(err, st.err) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	st.err = nil
	if v, err := f.Offer(at(1, 1), st); err != nil || v.Action != Propose || f.out != 1 {
		t.Errorf("again: %v %v", v, err)
	}
}

// What is remembered of producers is bounded, and forgetting one costs a query.
func TestProducersAreBounded(t *testing.T) {
	f, st := NewFilter[int](1024, false), &fixed{}
	for i := range 200 {
		v, _ := f.Offer(&Packet{Producer: fmt.Append(nil, i), Epoch: 1, Sequence: 1}, st)
		v.Flight.Outcome.Result = repository.PublishResult{Code: repository.OK, Seq: 1}
		f.Resolve(v.Flight, nil)
	}
	if len(f.order) > maxProducers || len(f.producers) != len(f.order) {
		t.Errorf("%d producers remembered, %d in order", len(f.producers), len(f.order))
	}
	if !f.Idle() {
		t.Error("not idle")
	}
}
