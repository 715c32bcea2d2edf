package actors

import (
	"fmt"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/storage"
)

// The beat is waited for while entries follow each other, and not otherwise.
func TestBeatNeedsAFlow(t *testing.T) {
	const every = 5 * time.Millisecond
	b := beat{every: every, shift: 1001 * time.Millisecond}
	if at := b.next(0); at != 0 {
		t.Errorf("idle: waits until %v", at)
	}
	for range fewEntries {
		b.proposed(time.Millisecond)
	}
	if at := b.next(2 * time.Millisecond); at != 4*time.Millisecond { // 1,005 ms on the wall
		t.Errorf("busy: waits until %v, want 4ms", at)
	}
	if at := b.next(5 * time.Millisecond); at != 9*time.Millisecond {
		t.Errorf("busy in the beat before: waits until %v, want 9ms", at)
	}
	if at := b.next(10 * time.Millisecond); at != 0 {
		t.Errorf("idle again: waits until %v", at)
	}
	b = beat{}
	for range fewEntries {
		b.proposed(0)
	}
	if at := b.next(0); at != 0 {
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
	b.every, b.shift = 24*time.Hour, 0
	for range fewEntries {
		b.proposed(h.relay.now())
	}
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
	answered(send(1)) // nothing was proposed before it
	answered(send(manyPackets))
	before, from := send(3)
	p := h.relay.Partitions()[0]
	await(t, "three packets", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.batcher.Packets() == 3 && p.resting
	})
	done := make(chan error, 1)
	p.Command(func(b *repository.EntryBuilder) { b.AddExpire(1) }, func(_ *repository.Results, err error) { done <- err })
	if err := <-done; err != nil {
		t.Error(err)
	}
	answered(before, from)
}
