package actors

import (
	"fmt"
	"testing"
	"time"
)

// residents lists the repositories that have an actor.
func (h *harness) residents() map[string]bool {
	found := map[string]bool{}
	for _, p := range h.relay.Partitions() {
		p.actors.each(func(r *resident) { found[string(r.repo)] = true })
	}
	return found
}

func TestLeastRecentlyUsedActorsGoFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHarness(t, func(c *Config) { c.MaxActors = 16 })
		for i := range 16 {
			h.publish(position(fmt.Sprint("r", i), "p", 1, 1, "x"))
			pass(time.Millisecond)
		}
		h.publish(position("r0", "p", 1, 2, "x")) // used again
		pass(time.Millisecond)
		h.publish(position("new", "p", 1, 1, "x"))
		await(t, "room to be made", func() bool { return h.relay.active.Load() <= 14 })
		found := h.residents()
		for i := range 16 {
			repo := fmt.Sprint("r", i)
			if want := i == 0 || i > 3; found[repo] != want {
				t.Errorf("%s: active %v, want %v", repo, found[repo], want)
			}
		}
		if !found["new"] {
			t.Error("the newest is gone")
		}
	})
}

// Actors that are all at work can't make room: what is too much is refused, until
// some have finished.
func TestActiveRepositoriesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHarness(t, func(c *Config) { c.MaxActors = 8 })
		for _, p := range h.relay.Partitions() {
			h.proposer.hold(p.Group(), true)
		}
		const most = 8 + 8/4 + 1
		sink := newSink(t)
		for i := range most {
			h.offer(sink, uint64(i), position(fmt.Sprint("r", i), "p", 1, 1, "x"))
		}
		h.offer(sink, most, position("one-more", "p", 1, 1, "x"))
		if a := sink.await(most); a.code() != CodeResourceExhausted || a.refusal.RetryAfter <= 0 {
			t.Errorf("over the limit: got %+v", a.refusal)
		}
		if n := h.relay.active.Load(); n != most {
			t.Errorf("%d actors, want %d", n, most)
		}
		for _, p := range h.relay.Partitions() {
			h.proposer.hold(p.Group(), false)
		}
		for i := range most {
			sink.await(uint64(i))
		}
		await(t, "room to be made", func() bool { return h.relay.active.Load() <= 8 })
		if a := h.publish(position("one-more", "p", 1, 1, "x")); a[0].refusal != nil {
			t.Errorf("with room: got %+v", a[0].refusal)
		}
	})
}
