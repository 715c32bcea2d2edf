package actors

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

// Nobody need ask for a packet that its time to live should pass: it is a dead
// letter then, with its reason, and what is behind it goes on.
func TestExpiredPacketsAreDeadLetters(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, func(s *deskSettings) { s.delivery.MaintainItems = 10 })
		d.group("g", nil)
		for i := range 35 {
			d.publish(packet(wire.PacketFields{RepoID: fmt.Sprint("r", i%3), TimeToLive: 10 * time.Second}))
		}
		d.send("r0", 1)
		pass(9 * time.Second)
		if n := len(d.dead(DeadQuery{Group: "g"})); n != 0 {
			t.Fatalf("%d dead letters before their time", n)
		}
		pass(3 * time.Second)
		letters := d.dead(DeadQuery{Group: "g"})
		if len(letters) != 35 {
			t.Errorf("%d dead letters, want 35", len(letters))
		}
		for i := range letters {
			if letters[i].Reason != repository.ReasonExpired {
				t.Errorf("%s %d: %v", letters[i].Repo, letters[i].Seq, letters[i].Reason)
			}
		}
		w := d.open(SessionConfig{Credit: 10})
		w.want(1, "[13]")
		w.nothing()
		if got := d.counter("waystation_dead_letters_total"); got != 35 {
			t.Errorf("%v dead letters are counted", got)
		}
	})
}

// counter is the sum of a metric over its labels.
func (h *harness) counter(name string) (sum float64) {
	h.t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// A packet under a lease is exempt until that ends.
func TestLeasedPacketsDoNotExpire(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		w := d.open(SessionConfig{Credit: 10, LeaseMs: 60_000})
		d.publish(packet(wire.PacketFields{RepoID: "r", TimeToLive: 5 * time.Second}))
		b := w.want(1, "[1]")
		pass(30 * time.Second)
		if n := len(d.dead(DeadQuery{Group: "g"})); n != 0 {
			t.Fatalf("%d dead letters while it is leased", n)
		}
		w.settle(retry(&b[0], "no")).want("OK")
		pass(5 * time.Second)
		if letters := d.dead(DeadQuery{Group: "g"}); len(letters) != 1 || letters[0].Reason != repository.ReasonExpired || letters[0].Attempts != 1 {
			t.Errorf("dead letters: %+v", letters)
		}
		w.nothing()
	})
}

// What is past its retention ends without anybody asking.
func TestRetention(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", nil)
		d.configure(func(c *repository.Config) { c.RetentionMs, c.DeadRetentionMs = 60_000, 120_000 })
		d.send("r", 3)
		pass(90 * time.Second)
		if letters := d.dead(DeadQuery{Group: "g"}); len(letters) != 3 || letters[0].Reason != repository.ReasonRetention {
			t.Errorf("dead letters: %+v", letters)
		}
		d.open(SessionConfig{Credit: 10}).nothing()
		pass(150 * time.Second)
		if n := len(d.dead(DeadQuery{Group: "g"})); n != 0 {
			t.Errorf("%d dead letters past their own retention", n)
		}
	})
}

// A group's windows cost memory in each partition: they go a while after its last
// session, and come back with the next.
func TestWindowsOfIdleGroupsAreShut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		w := d.open(SessionConfig{Credit: 10})
		open := func() (n int) {
			for _, k := range d.service.keepers {
				k.mu.Lock()
				n += len(k.windows)
				k.mu.Unlock()
			}
			return n
		}
		pass(5 * time.Minute)
		if open() != 2 {
			t.Fatalf("%d windows with a session, want 2", open())
		}
		w.Close()
		pass(30 * time.Second)
		if open() != 2 {
			t.Errorf("%d windows shortly after, want 2", open())
		}
		pass(2 * time.Minute)
		if open() != 0 {
			t.Errorf("%d windows long after", open())
		}
		d.send("r", 1)
		d.open(SessionConfig{Credit: 10}).want(1, "[1]")
	})
}

// A packet whose bytes are not those that were accepted is never served, and never
// dropped in silence: it is a dead letter that says so, and those behind it go on.
func TestDamagedPacketIsDead(t *testing.T) {
	for _, damage := range []error{ErrDamaged, ErrGone} {
		bubble(t, func(t *testing.T) {
			d := newDesk(t, nil)
			d.send("r", 3)
			p := d.tap("r")
			reads := 0
			p.spoil = func(data []byte, err error) ([]byte, error) {
				if reads++; reads == 2 {
					return nil, fmt.Errorf("read payload: %w", damage)
				}
				return data, err
			}
			w := d.open(SessionConfig{Credit: 10})
			b := w.want(1, "[1]")
			w.nothing() // the third goes back: its lease ends at the damaged one
			w.allDone(b)
			w.allDone(w.want(1, "[3]"))
			letters := d.dead(DeadQuery{Group: "g"})
			if len(letters) != 1 || letters[0].Seq != 2 || letters[0].Error() == "" {
				t.Errorf("dead letters: %+v", letters)
			}
			if !strings.Contains(d.log.String(), "sequence=2") || d.counter("waystation_actors_damaged_payloads_total") != 1 {
				t.Error("the damage was neither logged nor counted")
			}
			if n := w.Held(); n != 0 {
				t.Errorf("%d packets count as held", n)
			}
		})
	}
}

// A fault of reading that may pass is tried again.
func TestUnreadablePacketIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 2)
		p := d.tap("r")
		reads := 0
		p.spoil = func(data []byte, err error) ([]byte, error) {
			if reads++; reads == 1 {
				return nil, errors.New("disk is slow")
			}
			return data, err
		}
		w := d.open(SessionConfig{Credit: 10})
		var got []Delivery
		for len(got) < 2 {
			list := w.take(1)
			got = append(got, list...)
			w.settle(dones(list)...)
			pass(5 * time.Second)
		}
		if len(d.dead(DeadQuery{Group: "g"})) != 0 {
			t.Error("it is a dead letter")
		}
		if last := got[len(got)-1]; last.Seq != 2 {
			t.Errorf("delivered %s", seqs(got))
		}
	})
}
