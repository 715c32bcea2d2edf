package order

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// server is PROTOCOL 2.3 for one producer and repository.
type server struct {
	known       bool
	epoch, last uint64
	byNumber    map[[2]uint64]int // what each position was accepted for
	accepted    []int             // payloads in the order of their numbers
}

func (s *server) accept(t Try[int]) Answer {
	switch {
	case !s.known && t.Sequence > 1:
		return Answer{Verdict: UnknownProducer}
	case !s.known || t.Epoch > s.epoch:
		if t.Sequence != 1 {
			return Answer{Verdict: Gap, Expected: 1}
		}
		s.known, s.epoch, s.last = true, t.Epoch, 0
	case t.Epoch < s.epoch:
		return Answer{Verdict: Fenced}
	}
	if t.Sequence > s.last+1 {
		return Answer{Verdict: Gap, Expected: s.last + 1}
	}
	if t.Sequence == s.last+1 {
		s.last++
		s.byNumber[[2]uint64{t.Epoch, t.Sequence}] = t.Payload
		s.accepted = append(s.accepted, t.Payload)
	}
	return Answer{Verdict: Accepted}
}

// world is a lane, a server, and a connection between them that keeps its order.
type world struct {
	t       *rapid.T
	lane    *Lane[int]
	server  *server
	wire    []Try[int] // sent, not yet at the server
	ghosts  []Try[int] // of connections before: they may still arrive
	answers []answered
	pushed  int
	keys    map[int]uint64
	bad     map[int]bool // payloads that are refused for good
	ended   map[int]string
	wait    Step
	faults  bool
}

type answered struct {
	try Try[int]
	Answer
}

func newWorld(t *rapid.T) *world {
	return &world{
		t: t, lane: NewLane[int](true, 1), server: &server{byNumber: make(map[[2]uint64]int)},
		keys: make(map[int]uint64), bad: make(map[int]bool), ended: make(map[int]string), faults: true,
	}
}

func (w *world) push(bad bool) {
	w.pushed++
	w.bad[w.pushed] = bad
	w.keys[w.pushed] = w.lane.Push(w.pushed, true)
}

func (w *world) send() bool {
	if _, ok := w.lane.Peek(); !ok {
		return false
	}
	try := w.lane.Take()
	if w.lane.Open() > MaxOpen {
		w.t.Fatalf("%d tries are open", w.lane.Open())
	}
	w.wire = append(w.wire, try)
	return true
}

// arrive has the server take the oldest try, with a fault if fault says so.
func (w *world) arrive(fault Verdict) bool {
	if len(w.wire) == 0 {
		return false
	}
	try := w.wire[0]
	w.wire = w.wire[1:]
	w.answers = append(w.answers, answered{try, w.serve(try, fault)})
	return true
}

func (w *world) serve(try Try[int], fault Verdict) Answer {
	switch {
	case w.bad[try.Payload]:
		return Answer{Verdict: Refused}
	case fault == Busy, fault == Away:
		return Answer{Verdict: fault, DelayMs: 1}
	case fault == Unknown:
		w.server.accept(try)
		return Answer{Verdict: Unknown}
	}
	return w.server.accept(try)
}

func (w *world) answer() bool {
	if len(w.answers) == 0 {
		return false
	}
	a := w.answers[0]
	w.answers = w.answers[1:]
	payload, ended := w.lane.Answer(a.try.Key, a.Answer)
	if payload != a.try.Payload {
		w.t.Fatalf("the answer to %d went to %d", a.try.Payload, payload)
	}
	switch {
	case ended && a.Verdict == Accepted:
		w.end(payload, "accepted")
	case ended:
		w.end(payload, "refused")
	}
	w.step()
	return true
}

func (w *world) end(payload int, how string) {
	if before, ok := w.ended[payload]; ok {
		w.t.Fatalf("packet %d ended twice: %s and %s", payload, before, how)
	}
	w.ended[payload] = how
}

// step asks the lane what to do; waits are ended by another action.
func (w *world) step() {
	if st := w.lane.Step(); st.Kind != StepNone {
		if w.wait.Kind != StepNone {
			w.t.Fatalf("a second wait %+v during %+v", st, w.wait)
		}
		w.wait = st
	}
	for _, e := range w.lane.Ended() {
		how := "dropped"
		if e.Maybe {
			how = "unknown"
		}
		w.end(e.Payload, how)
	}
}

func (w *world) resume() bool {
	switch w.wait.Kind {
	case StepWait:
		w.wait = Step{}
		w.lane.Resume()
	case StepEpoch:
		if w.wait.Fenced {
			w.t.Fatal("fenced, though nobody else sends under the name")
		}
		w.wait = Step{}
		w.lane.SetEpoch(w.lane.Epoch() + 1)
	default:
		return false
	}
	w.step()
	return true
}

// lose breaks the connection: of what is on the wire, some arrives all the same.
func (w *world) lose(arriving int, ghosts bool) {
	for _, try := range w.wire[:min(arriving, len(w.wire))] {
		w.serve(try, Accepted)
	}
	rest := w.wire[min(arriving, len(w.wire)):]
	if ghosts {
		w.ghosts = append(w.ghosts, rest...)
	}
	w.wire, w.answers = nil, nil
	w.lane.Lost()
	w.step()
}

// haunt has a try of a connection before arrive late.
func (w *world) haunt() {
	if len(w.ghosts) > 0 {
		w.serve(w.ghosts[0], Accepted)
		w.ghosts = w.ghosts[1:]
	}
}

// settle lets everything go well until nothing is left to do.
func (w *world) settle() {
	for n := 0; w.send() || w.arrive(Accepted) || w.answer() || w.resume(); n++ {
		if n > 100_000 {
			w.t.Fatal("it does not come to an end")
		}
	}
	if !w.lane.Idle() || w.lane.Open() != 0 {
		w.t.Fatalf("the lane is not idle: open %d, mode %d, %d queued", w.lane.Open(), w.lane.mode, w.lane.q.len())
	}
}

func (w *world) check() {
	if !slices.IsSorted(w.server.accepted) {
		w.t.Fatalf("accepted out of the order sent: %v", w.server.accepted)
	}
	times := make(map[int]int)
	for _, payload := range w.server.accepted {
		times[payload]++
	}
	for payload := 1; payload <= w.pushed; payload++ {
		how, ok := w.ended[payload]
		switch n := times[payload]; {
		case !ok:
			w.t.Fatalf("packet %d did not end", payload)
		case n > 1:
			w.t.Fatalf("packet %d was accepted %d times", payload, n)
		case how == "accepted" && n == 0:
			w.t.Fatalf("packet %d has a receipt and was not accepted", payload)
		case (how == "refused" || how == "dropped") && n > 0:
			w.t.Fatalf("packet %d was accepted, though it ended as %s", payload, how)
		case how == "dropped" && w.faults:
			w.t.Fatalf("packet %d was dropped by nobody", payload)
		}
	}
}

// TestOrderAndOnceUnderLossAndRefusal: refusals for load and for good, unknown
// outcomes, lost connections.
func TestOrderAndOnceUnderLossAndRefusal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(1, 200).Draw(t, "actions") {
			switch rapid.IntRange(0, 11).Draw(t, "action") {
			case 0, 1, 2:
				w.push(rapid.IntRange(0, 9).Draw(t, "bad") == 0)
			case 3, 4, 5:
				w.send()
			case 6, 7:
				w.arrive(rapid.SampledFrom([]Verdict{Accepted, Accepted, Accepted, Busy, Away, Unknown}).Draw(t, "fault"))
			case 8, 9:
				w.answer()
			case 10:
				w.resume()
			case 11:
				w.lose(rapid.IntRange(0, 5).Draw(t, "arriving"), false)
			}
		}
		w.settle()
		w.check()
	})
}

// TestOrderAndOnceUnderLateDuplicates: what a lost connection carried arrives
// after it was sent again.
func TestOrderAndOnceUnderLateDuplicates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(1, 200).Draw(t, "actions") {
			switch rapid.IntRange(0, 12).Draw(t, "action") {
			case 0, 1, 2:
				w.push(false)
			case 3, 4, 5:
				w.send()
			case 6, 7:
				w.arrive(rapid.SampledFrom([]Verdict{Accepted, Accepted, Busy, Away, Unknown}).Draw(t, "fault"))
			case 8, 9:
				w.answer()
			case 10:
				w.resume()
			case 11:
				w.lose(rapid.IntRange(0, 5).Draw(t, "arriving"), true)
			case 12:
				w.haunt()
			}
		}
		w.settle()
		w.check()
	})
}

// TestOrderAndOnceWhenCallersGiveUp: packets are withdrawn and given up, and the
// server forgets the producer while nothing is open.
func TestOrderAndOnceWhenCallersGiveUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.faults = false
		for range rapid.IntRange(1, 200).Draw(t, "actions") {
			switch rapid.IntRange(0, 14).Draw(t, "action") {
			case 0, 1, 2:
				w.push(rapid.IntRange(0, 19).Draw(t, "bad") == 0)
			case 3, 4, 5:
				w.send()
			case 6, 7:
				w.arrive(rapid.SampledFrom([]Verdict{Accepted, Accepted, Busy, Away, Unknown}).Draw(t, "fault"))
			case 8, 9:
				w.answer()
			case 10:
				w.resume()
			case 11:
				w.lose(rapid.IntRange(0, 5).Draw(t, "arriving"), false)
			case 12:
				if payload := rapid.IntRange(1, max(1, w.pushed)).Draw(t, "withdrawn"); w.lane.Withdraw(w.keys[payload]) && w.pushed > 0 {
					w.end(payload, "dropped")
					w.step()
				}
			case 13:
				upTo := rapid.IntRange(0, max(0, w.pushed)).Draw(t, "given up")
				w.lane.GiveUp(func(payload int) bool { return payload <= upTo })
				w.step()
			case 14:
				if w.lane.Idle() {
					w.server.known = false
				}
			}
		}
		w.settle()
		w.check()
	})
}
