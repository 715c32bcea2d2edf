package actors

import (
	"fmt"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/storage"
)

// The beat is waited for while packets flow, and not otherwise.
func TestBeatNeedsAFlow(t *testing.T) {
	const every = 8 * time.Millisecond
	b := beat{every: every, shift: 1001 * time.Millisecond} // a beat begins at 7 ms, and at 15
	if at := b.next(0, 0); at != 0 {
		t.Errorf("idle: waits until %v", at)
	}
	last := b.proposed(time.Millisecond, steadyPackets)
	if at := b.next(2*time.Millisecond, last); at != 7*time.Millisecond {
		t.Errorf("busy: waits until %v, want 7ms", at)
	}
	if at := b.next(8*time.Millisecond, last); at != 0 {
		t.Errorf("the next beat has only begun: waits until %v", at)
	}
	last = b.proposed(8*time.Millisecond, 1)
	if at := b.next(8*time.Millisecond, last); at != 15*time.Millisecond {
		t.Errorf("proposed in this beat: waits until %v, want 15ms", at)
	}
	if at := b.next(11*time.Millisecond, last-1); at != 15*time.Millisecond {
		t.Errorf("missed: waits until %v, want 15ms", at)
	}
	if at := b.next(20*time.Millisecond, last); at != 0 {
		t.Errorf("hardly anything in the beat before: waits until %v", at)
	}
	b = beat{}
	b.proposed(0, steadyPackets)
	if at := b.next(0, 0); at != 0 {
		t.Errorf("without a beat: waits until %v", at)
	}
}

// What comes between two beats shares an entry; much of it, or a command, does not
// wait for the beat.
func TestBeatGathers(t *testing.T) {
	h := newHarness(t, func(c *Config) {
		c.Partitions, c.Beat = 1, time.Millisecond
		c.Alone = func(storage.GroupID) bool { return false }
	})
	b := &h.relay.beat // no beat comes while the test runs, and there is a flow
	b.mu.Lock()
	b.every, b.shift = 24*time.Hour, 12*time.Hour
	b.mu.Unlock()
	b.proposed(h.relay.now(), steadyPackets)
	sink, next := newSink(t), uint64(0)
	send := func(n int) (before, from uint64) {
		before, from = h.proposer.last(1), next
		for range n {
			h.offer(sink, next, plain(fmt.Sprint("r", next), "x"))
			next++
		}
		return before, from
	}
	answered := func(before, from uint64) {
		t.Helper()
		for i := from; i < next; i++ {
			if a := sink.await(i); a.refusal != nil {
				t.Fatalf("packet %d: %+v", i, a)
			}
		}
		if n := h.proposer.last(1) - before; n != 1 {
			t.Errorf("%d entries for %d packets", n, next-from)
		}
	}
	resting := func(n int) {
		t.Helper()
		p := h.relay.Partitions()[0]
		await(t, "packets that rest", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.batcher.Packets() == n && p.resting
		})
	}
	answered(send(manyPackets))
	before, from := send(3)
	resting(3)
	done := make(chan error, 1)
	h.relay.Partitions()[0].Command(func(b *repository.EntryBuilder) { b.AddExpire(1) }, func(_ *repository.Results, err error) { done <- err })
	if err := <-done; err != nil {
		t.Error(err)
	}
	answered(before, from)
}
