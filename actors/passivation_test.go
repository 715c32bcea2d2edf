package actors

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/waystation/waystation/messages/wire"
)

func TestIdleActorsGo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHarness(t, nil)
		h.publish(position("r", "p", 1, 1, "x"))
		pass(h.relay.cfg.IdleAfter - time.Second)
		if !h.residents()["r"] {
			t.Fatal("gone before its time")
		}
		pass(2 * time.Second)
		if h.residents()["r"] {
			t.Fatal("still there")
		}
		if a := h.publish(position("r", "p", 1, 2, "x"), position("r", "p", 1, 1, "x")); a[0].seq != 2 || !a[1].duplicate || a[1].seq != 1 {
			t.Errorf("the next incarnation answers %+v", a)
		}
	})
}

// An actor that is asked to go while something of its is on the way stays: in the
// filter, or, without a position or an id, in the batcher alone.
func TestBusyActorsStay(t *testing.T) {
	for _, c := range []struct {
		name string
		raw  func(i int) []byte
	}{
		{"positions", func(i int) []byte { return position("r", "p", 1, uint64(i+1), "x") }},
		{"ids", func(i int) []byte {
			return packet(wire.PacketFields{RepoID: "r", PacketID: fmt.Sprint(i), Content: []byte("x")})
		}},
		{"neither", func(int) []byte { return packet(wire.PacketFields{RepoID: "r", Content: []byte("x")}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newHarness(t, nil)
				g := h.partition("r").Group()
				h.proposer.hold(g, true)
				sink := newSink(t)
				h.offer(sink, 0, c.raw(0)) // in flight
				pass(time.Millisecond)
				h.offer(sink, 1, c.raw(1)) // queued
				pass(time.Millisecond)
				x := h.resident("r")
				x.askToGo()
				pass(h.relay.cfg.IdleAfter * 2) // asked again and again
				select {
				case <-x.done:
					t.Fatal("gone with packets on their way")
				default:
				}
				h.proposer.hold(g, false)
				for i := range 2 {
					if a := sink.await(uint64(i)); a.refusal != nil || int(a.seq) != i+1 {
						t.Errorf("packet %d: %+v", i, a)
					}
				}
				pass(h.relay.cfg.IdleAfter * 2)
				select {
				case <-x.done:
				default:
					t.Error("stays with nothing to do")
				}
			})
		})
	}
}

// A request to go is not repeated while it waits: else an actor that is suspended
// for long would gather thousands.
func TestOneRequestToGoAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHarness(t, func(c *Config) { c.RestartMin, c.RestartMax = time.Hour, time.Hour })
		h.relay.onPacket = func(string, any) { panic("always") }
		h.publish(position("r", "p", 1, 1, "x"))
		x := h.resident("r")
		pass(30 * time.Minute)
		if n := x.mailbox.UserMessageCount(); n != 1 {
			t.Errorf("%d messages wait at a suspended actor, want the one request to go", n)
		}
	})
}

// Offers race the handshake from all sides: each is accepted once, in its
// producer's order, by whichever incarnation.
func TestOffersRacePassivation(t *testing.T) {
	h := newHarness(t, nil)
	const producers, each = 4, 150
	stop := make(chan struct{})
	var sweeper, senders sync.WaitGroup
	incarnations := map[*resident]bool{}
	sweeper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			h.partition("r").actors.each(func(x *resident) {
				incarnations[x] = true
				x.askToGo()
			})
		}
	})
	for p := range producers {
		senders.Go(func() {
			last := uint64(0)
			for i := range each {
				a := h.publish(position("r", fmt.Sprint("p", p), 1, uint64(i+1), "x"))[0]
				if a.refusal != nil || a.duplicate || uint64(a.seq) <= last {
					t.Errorf("producer %d packet %d after number %d: %+v", p, i, last, a)
				}
				last = uint64(a.seq)
			}
		})
	}
	senders.Wait()
	close(stop)
	sweeper.Wait()
	if len(incarnations) < 2 {
		t.Errorf("%d incarnations: nothing raced", len(incarnations))
	}
	if a := h.publish(position("r", "after", 1, 1, "x"))[0]; a.seq != producers*each+1 {
		t.Errorf("the next number is %d, want %d", a.seq, producers*each+1)
	}
}
