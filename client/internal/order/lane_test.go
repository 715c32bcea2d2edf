package order

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScripts runs the scripts in testdata: one command a line, each with what
// the lane did.
//
//	push N            packets, named by the order in which they were pushed
//	send              all that may be sent, as packet@epoch.sequence
//	answer P=VERDICT  answers open tries in the order given; gap:N, busy:MS
//	lost              ends all open tries
//	resume, epoch E, withdraw P, give-up P (and all before it), stop
func TestScripts(t *testing.T) {
	files, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.IsDir() {
			continue // what rapid keeps
		}
		t.Run(f.Name(), func(t *testing.T) {
			s := &script{lane: NewLane[int](true, 1)}
			datadriven.RunTest(t, "testdata/"+f.Name(), func(t *testing.T, d *datadriven.TestData) string {
				return s.run(t, d)
			})
		})
	}
}

type script struct {
	lane   *Lane[int]
	pushed int
	keys   []uint64
	out    strings.Builder
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	s.out.Reset()
	switch d.Cmd {
	case "push":
		for range number(t, d.CmdArgs[0].Key) {
			s.pushed++
			s.keys = append(s.keys, s.lane.Push(s.pushed, true))
		}
	case "send":
		s.send()
	case "answer":
		for _, a := range d.CmdArgs {
			s.answer(t, number(t, a.Key), a.Vals[0])
		}
	case "lost":
		s.lane.Lost()
	case "resume":
		s.lane.Resume()
	case "epoch":
		s.lane.SetEpoch(uint64(number(t, d.CmdArgs[0].Key)))
	case "withdraw":
		fmt.Fprintf(&s.out, "withdrawn: %v\n", s.lane.Withdraw(s.keys[number(t, d.CmdArgs[0].Key)-1]))
	case "give-up":
		last := number(t, d.CmdArgs[0].Key)
		s.lane.GiveUp(func(p int) bool { return p <= last })
	case "stop":
		s.lane.Stop()
	default:
		t.Fatalf("no such command: %s", d.Cmd)
	}
	s.step()
	if s.out.Len() == 0 {
		return "ok\n"
	}
	return s.out.String()
}

func (s *script) send() {
	var tries []string
	for {
		if _, ok := s.lane.Peek(); !ok {
			break
		}
		try := s.lane.Take()
		tries = append(tries, fmt.Sprintf("%d@%d.%d", try.Payload, try.Epoch, try.Sequence))
	}
	if n := len(tries); n > 8 {
		tries = append(tries[:2], fmt.Sprintf("… %d in all …", n), tries[n-1])
	}
	if len(tries) == 0 {
		tries = []string{"nothing"}
	}
	fmt.Fprintf(&s.out, "%s\n", strings.Join(tries, " "))
}

func (s *script) answer(t *testing.T, packet int, text string) {
	name, arg, _ := strings.Cut(text, ":")
	verdicts := map[string]Verdict{
		"accepted": Accepted, "refused": Refused, "busy": Busy, "away": Away, "unknown": Unknown, "gap": Gap,
		"unknown-producer": UnknownProducer, "fenced": Fenced,
	}
	v, ok := verdicts[name]
	if !ok {
		t.Fatalf("no such verdict: %s", name)
	}
	a := Answer{Verdict: v}
	switch {
	case v == Gap:
		a.Expected = uint64(number(t, arg))
	case arg != "":
		a.DelayMs = int64(number(t, arg))
	}
	if _, ended := s.lane.Answer(s.keys[packet-1], a); ended {
		fmt.Fprintf(&s.out, "%d ended\n", packet)
	}
}

func (s *script) step() {
	st := s.lane.Step()
	for _, e := range s.lane.Ended() {
		fmt.Fprintf(&s.out, "%d ended unanswered, maybe accepted: %v\n", e.Payload, e.Maybe)
	}
	switch st.Kind {
	case StepNone:
	case StepWait:
		fmt.Fprintf(&s.out, "wait %d ms, failures %d\n", st.DelayMs, st.Failures)
	case StepEpoch:
		fmt.Fprintf(&s.out, "needs an epoch above %d, fenced: %v\n", s.lane.Epoch(), st.Fenced)
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLimitFollowsRefusals(t *testing.T) {
	l := NewLane[int](true, 1)
	sendAll := func() (keys []uint64) {
		for {
			if _, ok := l.Peek(); !ok {
				return keys
			}
			keys = append(keys, l.Take().Key)
		}
	}
	for i := range 3000 {
		l.Push(i, true)
	}
	open := sendAll()
	if len(open) != MaxOpen {
		t.Fatalf("%d open, want %d", len(open), MaxOpen)
	}
	for _, k := range open { // all of one round: one cause, one cut
		l.Answer(k, Answer{Verdict: Busy})
	}
	if st := l.Step(); st.Kind != StepWait {
		t.Fatalf("step %+v, want a wait", st)
	}
	l.Resume()
	if open = sendAll(); len(open) != MaxOpen/2 {
		t.Fatalf("%d open after a refusal, want %d", len(open), MaxOpen/2)
	}
	for range 10 {
		for _, k := range open {
			l.Answer(k, Answer{Verdict: Accepted})
		}
		l.Push(0, true)
		open = sendAll()
	}
	for range MaxOpen {
		l.Push(0, true)
	}
	if sendAll(); l.Open() <= MaxOpen/2 {
		t.Errorf("the limit did not grow back: %d open", l.Open())
	}
}

func TestSlots(t *testing.T) {
	var s Slots[int]
	if _, ok := s.Take(0); ok {
		t.Fatal("took from nothing")
	}
	// One answer that is very late, among many that come soon.
	for i := range 3 * maxRing {
		if o := s.Put(i); o != uint64(i) {
			t.Fatalf("ordinal %d, want %d", o, i)
		}
		if i == 5 {
			continue
		}
		if v, ok := s.Take(uint64(i)); !ok || v != i {
			t.Fatalf("took %d, %v, want %d", v, ok, i)
		}
	}
	if s.Len() != 1 || len(s.ring) > maxRing {
		t.Fatalf("%d left, ring of %d", s.Len(), len(s.ring))
	}
	seen := 0
	s.Each(func(v int) { seen += v })
	if v, ok := s.Take(5); !ok || v != 5 || seen != 5 {
		t.Fatalf("the late one: %d, %v, visited %d", v, ok, seen)
	}
	if _, ok := s.Take(5); ok {
		t.Fatal("took the late one twice")
	}
	if _, ok := s.Take(s.tail); ok || s.Len() != 0 {
		t.Fatal("took what was never put")
	}
}

func BenchmarkLane(b *testing.B) {
	l := NewLane[int](true, 1)
	keys := make([]uint64, 0, 4)
	b.ReportAllocs()
	for i := 0; i < b.N; i += cap(keys) {
		for range cap(keys) {
			l.Push(i, true)
		}
		keys = keys[:0]
		for {
			if _, ok := l.Peek(); !ok {
				break
			}
			keys = append(keys, l.Take().Key)
		}
		for _, k := range keys {
			l.Answer(k, Answer{})
			l.Step()
		}
	}
}
