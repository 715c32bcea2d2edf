package history

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

type step struct {
	what       string // send, receipt, read
	at         int
	index      uint32
	number     uint64
	call, done int
}

func TestCheck(t *testing.T) {
	send := func(index uint32, at int) step { return step{what: "send", index: index, at: at} }
	receipt := func(index uint32, number uint64, at int) step {
		return step{what: "receipt", index: index, number: number, at: at}
	}
	read := func(head uint64, call, done int) step {
		return step{what: "read", number: head, call: call, done: done}
	}
	for _, tc := range []struct {
		name   string
		steps  []step
		seen   map[uint32]uint64 // numbers of packets without a receipt
		broken bool
	}{
		{"nothing", nil, nil, false},
		{"one after the other", []step{send(0, 1), receipt(0, 1, 2), read(1, 3, 4), send(1, 5), receipt(1, 2, 6), read(2, 7, 8)}, nil, false},
		{"at the same time, either order", []step{send(0, 1), send(1, 1), receipt(1, 1, 5), receipt(0, 2, 5), read(1, 2, 4)}, nil, false},
		{"a number below one that was there before", []step{send(0, 1), receipt(0, 5, 2), send(1, 3), receipt(1, 4, 4)}, nil, true},
		{"two packets under one number", []step{send(0, 1), receipt(0, 1, 2), send(1, 3), receipt(1, 1, 4)}, nil, true},
		{"a question answered from the past", []step{send(0, 1), receipt(0, 1, 2), read(0, 3, 4)}, nil, true},
		{"a question answered while the packet is on its way", []step{send(0, 1), receipt(0, 1, 5), read(0, 2, 4), read(1, 2, 4)}, nil, false},
		{"back and forth", []step{send(0, 1), receipt(0, 1, 9), read(1, 2, 3), read(0, 4, 5)}, nil, true},
		{"a packet that nobody can have sent yet", []step{read(1, 1, 2), send(0, 3), receipt(0, 1, 4)}, nil, true},
		{"without a receipt, and never seen", []step{send(0, 1), send(1, 2), receipt(1, 1, 3), read(1, 4, 5)}, nil, false},
		{"without a receipt, and seen later", []step{send(0, 1), send(1, 2), receipt(1, 1, 3), read(1, 4, 5), read(2, 6, 7)}, map[uint32]uint64{0: 2}, false},
		{"numbers of others between", []step{send(0, 1), receipt(0, 3, 2), read(3, 3, 4), read(4, 5, 6), send(1, 7), receipt(1, 9, 8), read(9, 9, 10)}, nil, false},
	} {
		r := New(2, []int{1})
		at := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
		for _, s := range tc.steps {
			switch s.what {
			case "send":
				r.Send(1, s.index, at(s.at))
			case "receipt":
				r.Receipt(1, s.index, s.number, at(s.at))
			case "read":
				r.Read(1, s.number, at(s.call), at(s.done))
			}
		}
		got := r.Check(time.Minute, func(_ int, index uint32) uint64 { return tc.seen[index] })
		if got.Unknown != 0 || slices.Contains(got.Broken, 1) != tc.broken {
			t.Errorf("%s: %+v", tc.name, got)
		}
	}
}

// A whole run's worth of calls, many at the same time, is decided quickly; and so
// is one with a single stale answer in it.
func TestCheckMany(t *testing.T) {
	for _, stale := range []bool{false, true} {
		r := New(1, []int{0})
		random := rand.New(rand.NewPCG(1, 1))
		now := func(n int) time.Duration { return time.Duration(n) * time.Microsecond }
		for i := range 2 * Most {
			// Packet i takes its number at 100 i, somewhere within its call.
			at := 10_000 + 100*i
			r.Send(0, uint32(i), now(at-random.IntN(5000)))
			r.Receipt(0, uint32(i), uint64(i)+1, now(at+random.IntN(5000)))
			if i%4 == 0 {
				r.Read(0, uint64(i)+1, now(at-random.IntN(3000)), now(at+50+random.IntN(3000)))
			}
		}
		if stale {
			r.Read(0, 1000, now(10_000+100*2000), now(10_000+100*2000+1))
		}
		got := r.Check(time.Minute, func(int, uint32) uint64 { return 0 })
		if got.Unknown != 0 || (len(got.Broken) == 1) != stale || got.Operations < Most {
			t.Errorf("stale %v: %+v", stale, got)
		}
	}
}

func TestNotSampled(t *testing.T) {
	var none *Recorder
	r := New(2, []int{1})
	if none.Sampled(0) || r.Sampled(0) || !r.Sampled(1) {
		t.Error("sampled the wrong ones")
	}
	r.Send(0, 0, 1)
	r.Receipt(0, 0, 1, 2)
	r.Read(0, 1, 1, 2)
	if got := r.Check(time.Minute, nil); got.Operations != 0 {
		t.Errorf("got %+v", got)
	}
}
