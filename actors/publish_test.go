package actors

import (
	"fmt"
	"testing"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

func TestPublishInOrder(t *testing.T) {
	h := newHarness(t, nil)
	var raws [][]byte
	for i := range 200 {
		raws = append(raws, position(fmt.Sprintf("acme/%d", i%5), "p", 1, uint64(i/5+1), fmt.Sprint("content ", i)))
	}
	for i, a := range h.publish(raws...) {
		if a.refusal != nil || a.duplicate || a.seq != repository.Seq(i/5+1) || a.repo != fmt.Sprintf("acme/%d", i%5) {
			t.Fatalf("packet %d: %+v", i, a)
		}
	}
}

func TestResends(t *testing.T) {
	h := newHarness(t, nil)
	id := func(content string) []byte {
		return packet(wire.PacketFields{RepoID: "r", PacketID: "the-id", Content: []byte(content)})
	}
	pos := position("r", "p", 1, 1, "x")
	first := h.publish(id("one"), pos)
	before := h.proposer.last(h.partition("r").Group())
	again := h.publish(id("one"), id("two"), pos)
	if h.proposer.last(h.partition("r").Group()) != before {
		t.Error("a resend of what is known was proposed")
	}
	for i, want := range []answered{
		{repo: "r", id: "the-id", seq: first[0].seq, duplicate: true},
		{repo: "r", id: "the-id", seq: first[0].seq, duplicate: true, contentDiffers: true},
		{repo: "r", seq: first[1].seq, duplicate: true},
	} {
		if again[i] != want {
			t.Errorf("resend %d: got %+v, want %+v", i, again[i], want)
		}
	}
}

func TestResendInFlightAttaches(t *testing.T) {
	h := newHarness(t, nil)
	g := h.partition("r").Group()
	h.proposer.hold(g, true)
	sink := newSink(t)
	id := packet(wire.PacketFields{RepoID: "r", PacketID: "a", Content: []byte("one")})
	other := packet(wire.PacketFields{RepoID: "r", PacketID: "a", Content: []byte("two")})
	h.offer(sink, 0, id, position("r", "p", 1, 1, "x"))
	h.offer(sink, 2, id, other, position("r", "p", 1, 1, "x"))
	await(t, "resends in the filter", func() bool { return h.resident("r").attached.Load() == 3 })
	h.proposer.hold(g, false)
	for i, want := range []answered{
		{repo: "r", id: "a", seq: 1},
		{repo: "r", seq: 2},
		{repo: "r", id: "a", seq: 1, duplicate: true},
		{repo: "r", id: "a", seq: 1, duplicate: true, contentDiffers: true},
		{repo: "r", seq: 2, duplicate: true},
	} {
		if got := sink.await(uint64(i)); got != want {
			t.Errorf("packet %d: got %+v, want %+v", i, got, want)
		}
	}
}

// TestGapIsConfirmed: what a node misses that does not know that it leads no more
// says nothing about what the next leader has.
func TestGapIsConfirmed(t *testing.T) {
	h := newHarness(t, nil)
	h.publish(position("r", "p", 1, 1, "x"))
	gap, unknown := position("r", "p", 1, 5, "x"), position("r", "nobody", 1, 5, "x")
	for i, want := range []string{CodeGap, CodeUnknownProducer} {
		if a := h.publish(gap, unknown); a[i].code() != want {
			t.Errorf("a leader answers %q, want %q", a[i].code(), want)
		}
	}
	h.proposer.deposed.Store(true)
	for _, a := range h.publish(gap, unknown) {
		if a.code() != CodeUnavailable {
			t.Errorf("a deposed leader answers %q", a.code())
		}
	}
}
