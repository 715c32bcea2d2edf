package actors

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

// asked is one call of Result on its way.
type asked struct {
	mu   sync.Mutex
	x    *PacketResult
	err  error
	over bool
}

// ask asks for a result and does not wait for the answer.
func (d *desk) ask(q ResultQuery) *asked {
	a := &asked{}
	q.Repo, q.Group = "r", "g"
	go func() {
		x, err := d.service.Result(context.Background(), q)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.x, a.err, a.over = x, err, true
	}()
	synctest.Wait()
	return a
}

func (a *asked) String() string {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	var r *Refusal
	switch {
	case !a.over:
		return "waits"
	case errors.As(a.err, &r):
		return r.Code + " " + r.Field
	case a.err != nil:
		return a.err.Error()
	}
	return fmt.Sprintf("%s %d %.20s%s", a.x.State, a.x.Seq, a.x.Result, a.x.Reason)
}

func (d *desk) watching() (n int) {
	for _, p := range d.relay.Partitions() {
		n += int(p.watches.count.Load())
		if w := &p.watches; n == 0 && len(w.byKey) > 0 {
			d.t.Errorf("nobody waits, and %d keys are watched", len(w.byKey))
		}
	}
	return n
}

func want(t *testing.T, what string, got fmt.Stringer, want string) {
	t.Helper()
	if got.String() != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// Who waits for a packet's result gets it once the packet is settled, whatever it is
// settled as, and nobody else is woken.
func TestResultIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", func(c *repository.GroupConfig) { c.MaxAttempts = 2 })
		d.publish(packet(wire.PacketFields{RepoID: "r", PacketID: "one"}), packet(wire.PacketFields{RepoID: "r", PacketID: "two"}),
			packet(wire.PacketFields{RepoID: "r", PacketID: "three"}))
		first, second, third := d.ask(ResultQuery{ID: "one", WaitMs: 60_000}), d.ask(ResultQuery{Seq: 2, WaitMs: 60_000}), d.ask(ResultQuery{Seq: 3, WaitMs: 60_000})
		want(t, "at once", d.ask(ResultQuery{Seq: 1}), "pending 1 ")
		want(t, "the first", first, "waits")
		if n := d.watching(); n != 3 {
			t.Errorf("%d watches", n)
		}
		w := d.open(SessionConfig{Group: "g", Credit: 3, MaxBatch: 1})
		b := w.want(1, "[1]")
		x := done(&b[0])
		x.Result = []byte("found nothing")
		w.settle(x).want("OK")
		want(t, "the first", first, "done 1 found nothing")
		want(t, "the second", second, "waits")
		b = w.want(1, "[2]")
		w.settle(dead(&b[0], "no")).want("OK")
		want(t, "the second", second, "dead 2 rejected")
		b = w.want(1, "[3]")
		w.settle(done(&b[0])).want("OK")
		want(t, "the third, which has none", third, "done 3 ")
		want(t, "the third, later", d.ask(ResultQuery{Seq: 3}), "NOT_FOUND sequence")
		want(t, "the third, later, empty", d.ask(ResultQuery{Seq: 3, Empty: true}), "done 3 ")
		want(t, "no such packet", d.ask(ResultQuery{Seq: 4}), "NOT_FOUND sequence")
		want(t, "no such id", d.ask(ResultQuery{ID: "four"}), "NOT_FOUND packet_id")
		want(t, "no packet", d.ask(ResultQuery{}), "INVALID_ARGUMENT sequence")
		want(t, "too long", d.ask(ResultQuery{Seq: 1, WaitMs: 60_001}), "INVALID_ARGUMENT wait_ms")
		want(t, "by id", d.ask(ResultQuery{ID: "one"}), "done 1 found nothing")
		if n := d.watching(); n != 0 {
			t.Errorf("%d watches are left", n)
		}
		pass(2 * time.Hour)
		want(t, "after its time", d.ask(ResultQuery{Seq: 1}), "NOT_FOUND sequence")
	})
}

// A wait ends with its time, with the leadership and with the service, and leaves
// nothing behind.
func TestResultWaitEnds(t *testing.T) {
	for _, x := range []struct {
		name, want string
		end        func(d *desk)
	}{
		{"time", "pending 1 ", func(*desk) { pass(21 * time.Second) }},
		{"leadership", "UNAVAILABLE ", func(d *desk) { d.partition("r").LeaderStop(1) }},
		{"service", "UNAVAILABLE ", func(d *desk) { d.stop() }},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				d := newDesk(t, nil)
				d.group("g", nil)
				d.send("r", 1)
				a := d.ask(ResultQuery{Seq: 1, WaitMs: 20_000})
				want(t, "before", a, "waits")
				x.end(d)
				want(t, "after", a, x.want)
				if n := d.watching(); n != 0 {
					t.Errorf("%d watches are left", n)
				}
			})
		})
	}
}

// A group that is about to be made is waited for, and no other.
func TestResultWaitsForItsGroup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 1)
		a := d.ask(ResultQuery{Seq: 1, WaitMs: 20_000})
		pass(time.Second)
		want(t, "before the group", a, "waits")
		d.group("g", nil)
		pass(time.Second)
		b := d.open(SessionConfig{Group: "g", Credit: 1})
		x := done(&b.want(1, "[1]")[0])
		x.Result = []byte("ok")
		b.settle(x).want("OK")
		want(t, "after it", a, "done 1 ok")
		other := &asked{}
		go func() {
			_, err := d.service.Result(context.Background(), ResultQuery{Repo: "r", Group: "never", Seq: 1, WaitMs: 20_000})
			other.mu.Lock()
			defer other.mu.Unlock()
			other.err, other.over = err, true
		}()
		pass(6 * time.Second)
		want(t, "no group", other, "NOT_FOUND group")
	})
}

// The table of those who wait is bounded, and full is said at once.
func TestWatchesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", nil)
		d.send("r", 1)
		p := d.partition("r")
		var list []*Watch
		for range maxWatches {
			w, err := p.Watch(1, "r", repository.RankNormal, 1)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, w)
		}
		want(t, "one too many", d.ask(ResultQuery{Seq: 1, WaitMs: 20_000}), "RESOURCE_EXHAUSTED ")
		for _, w := range list {
			p.Unwatch(w)
			p.Unwatch(w)
		}
		if n := d.watching(); n != 0 {
			t.Errorf("%d watches are left", n)
		}
		want(t, "with room", d.ask(ResultQuery{Seq: 1, WaitMs: 20_000}), "waits")
	})
}

// A long result is stored compressed, and one that does not get shorter is not.
func TestLongResults(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", nil)
		d.send("r", 3)
		w := d.open(SessionConfig{Group: "g", Credit: 3})
		b := w.want(3, "[1 2 3]")
		long, noise := []byte(strings.Repeat("all work and no play ", 5000)), make([]byte, 20_000)
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range noise {
			noise[i] = byte(rng.Uint32())
		}
		for i, data := range [][]byte{long, noise, long[:packBeyond]} {
			x := done(&b[i])
			x.Result = data
			w.settle(x).want("OK")
			got, err := d.service.Result(context.Background(), ResultQuery{Repo: "r", Group: "g", Seq: x.Seq})
			if err != nil || !bytes.Equal(got.Result, data) {
				t.Fatalf("result %d: %+v, %v", i, got.State, err)
			}
			if lookup := d.lookup("r", x.Seq).Groups[0].Result; !bytes.Equal(lookup, data) {
				t.Errorf("lookup %d: %d bytes, want %d", i, len(lookup), len(data))
			}
			var kept repository.Result
			_ = d.partition("r").View(func(m *repository.Machine) (err error) {
				kept, _, err = m.ResultOf(1, []byte("r"), x.Seq)
				return err
			})
			if packed := i == 0; kept.Packed != packed || packed && len(kept.Data) > len(data)/10 || len(kept.Data) > len(data) {
				t.Errorf("result %d of %d bytes: packed %v, %d bytes", i, len(data), kept.Packed, len(kept.Data))
			}
		}
	})
}
