package actors

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waystation/waystation/messages/wire"
)

// Restarts of an actor that fails again and again are least·2ⁿ apart, up to the
// limit, ± 20 %; what came meanwhile waits for them.
func TestRestartsBackOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHarness(t, func(c *Config) {
			c.RestartMin, c.RestartMax, c.ParkAfter, c.FailureWindow = time.Second, 8*time.Second, 100, time.Hour
		})
		h.relay.onPacket = func(string, any) { panic("always") }
		h.publish(plain("r", "x")) // refused at once: no time has passed
		for i, seconds := range []int{1, 2, 4, 8, 8, 8} {
			base := time.Duration(seconds) * time.Second
			start := time.Now()
			if a := h.publish(plain("r", "x"))[0]; a.code() != CodeUnavailable {
				t.Fatalf("answered %+v", a)
			}
			if waited := time.Since(start); waited < base*8/10 || waited > base*12/10+time.Millisecond {
				t.Errorf("restart %d came after %v, want %v ± 20 %%", i+1, waited, base)
			}
		}
		if n := h.counter("waystation_actor_restarts_total"); n != 6 {
			t.Errorf("%v restarts are counted, want 6", n)
		}
	})
}

// The refusal of what an actor failed on does not wait for the restart.
func TestPanicIsRefusedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHarness(t, func(c *Config) { c.RestartMin, c.RestartMax = time.Hour, time.Hour })
		h.relay.onPacket = func(repo string, _ any) {
			if repo == "bad" {
				panic("always")
			}
		}
		start := time.Now()
		h.publish(plain("bad", "1"), plain("good", "1"), plain("bad", "2"))
		for range 10 {
			h.publish(plain("good", "x")) // others never notice
		}
		if waited := time.Since(start); waited > 100*time.Millisecond {
			t.Errorf("answered after %v", waited)
		}
	})
}

// Failures that are far apart are no reason to park a repository.
func TestRareFailuresDoNotPark(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHarness(t, func(c *Config) { c.ParkAfter, c.FailureWindow = 3, time.Minute })
		h.relay.onPacket = func(_ string, p any) {
			if string(p.(*wire.Packet).Content) == "poison" {
				panic("poisoned")
			}
		}
		for range 10 {
			h.publish(plain("r", "poison"), plain("r", "x"))
			h.publish(plain("r", "poison"))
			pass(2 * time.Minute)
		}
		if h.relay.Parked("r") {
			t.Error("parked, with two failures at a time")
		}
		for range 3 {
			h.publish(plain("r", "poison"))
		}
		await(t, "the parking", func() bool { return h.relay.Parked("r") })
	})
}

// A repository stays parked across a passivation of all others and a change of
// leadership, and what waits in its mailbox is answered when it is parked.
func TestParkedStaysParked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHarness(t, func(c *Config) {
			c.ParkAfter, c.RestartMin, c.RestartMax, c.FailureWindow = 2, time.Second, time.Second, time.Hour
		})
		h.relay.onPacket = func(repo string, _ any) {
			if repo == "bad" {
				panic("always")
			}
		}
		h.publish(plain("bad", "x"))
		sink := newSink(t)
		h.offer(sink, 0, plain("bad", "second failure"))
		h.offer(sink, 1, plain("bad", "behind it"))
		pass(2 * time.Second)
		if a := sink.await(1); a.code() != CodeUnavailable || a.refusal.RetryAfter < 10*time.Second {
			t.Errorf("behind the failure: %+v", a.refusal)
		}
		g := h.partition("bad").Group()
		h.proposer.resign(g)
		h.proposer.lead(g)
		pass(time.Second)
		if !h.relay.Parked("bad") || h.counter("waystation_actors_parked") != 1 {
			t.Error("a change of leadership freed it")
		}
		if h.relay.Unpark("good") || !h.relay.Unpark("bad") || h.relay.Parked("bad") {
			t.Error("unpark")
		}
	})
}

// gloomySink panics when it is told of its first packet.
type gloomySink struct{ once sync.Once }

func (s *gloomySink) Results([]PublishResult) { s.once.Do(func() { panic("sink is broken") }) }

// A panic outside of an offer, too, leaves nobody waiting for the restart.
func TestPanicInAnAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHarness(t, func(c *Config) { c.RestartMin, c.RestartMax = time.Hour, time.Hour })
		g := h.partition("r").Group()
		h.proposer.hold(g, true)
		raw := func(id string) []byte { return packet(wire.PacketFields{RepoID: "r", PacketID: id}) }
		sink, gloomy := newSink(t), &gloomySink{}
		h.offer(sink, 0, raw("a"), raw("b"))
		pass(0)
		h.offer(gloomy, 0, raw("a"))
		h.offer(sink, 2, raw("b"))
		await(t, "the resends", func() bool { return h.resident("r").attached.Load() == 2 })
		start := time.Now()
		h.proposer.hold(g, false)
		for i := range uint64(3) {
			sink.await(i)
		}
		if waited := time.Since(start); waited > time.Second {
			t.Errorf("the other resend was answered after %v", waited)
		}
		if a := sink.await(2); a.code() != CodeUnavailable {
			t.Errorf("the other resend: %+v", a)
		}
		if !strings.Contains(h.log.String(), "sink is broken") {
			t.Error("the panic was not logged")
		}
	})
}

// A repository gets no more of the intake than its quarter by sending much at
// once: the frame's first packets go in, the others are refused.
func TestQuarterOfTheIntakeAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHarness(t, func(c *Config) {
			c.Limits.Content, c.Limits.FrameBytes = 64<<10, 1<<20
			c.IntakeBytes = 1 << 20
		})
		h.proposer.hold(h.partition("hot").Group(), true)
		h.publishHeld("hot", 1, 1) // an entry is in flight, so that what follows stays in the intake
		sink := h.publishHeld("hot", 16, 40<<10)
		refused := 0
		for i := range uint64(16) {
			if a, ok := sink.answer(i); ok {
				if refused++; a.code() != CodeResourceExhausted || a.refusal.RetryAfter <= 0 {
					t.Errorf("packet %d: %+v", i, a)
				}
			} else if refused > 0 {
				t.Errorf("packet %d is in, and one before it is not", i)
			}
		}
		if want := 16 - (1<<18)/(40<<10+packetOverhead); refused != want {
			t.Errorf("%d of 16 packets of 40 KiB refused, want %d", refused, want)
		}
		if one := h.publishHeld("big", 1, 64<<10); one.len() == 1 {
			t.Error("another repository's one packet was refused")
		}
	})
}

// publishHeld offers n packets of size bytes in one frame, and lets all happen
// that can.
func (h *harness) publishHeld(repo string, n, size int) *testSink {
	sink := newSink(h.t)
	var raws [][]byte
	for range n {
		raws = append(raws, plain(repo, string(make([]byte, size))))
	}
	h.offer(sink, 0, raws...)
	pass(0)
	return sink
}
