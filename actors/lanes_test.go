package actors

import (
	"fmt"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

// workOff settles everything that comes until there is nothing more, and counts
// the packets by repository.
func (w *worker) workOff() map[string]int {
	w.d.t.Helper()
	got := map[string]int{}
	for idle := 0; idle < 3; {
		pass(100 * time.Millisecond)
		list := w.Take(10_000, nil)
		if len(list) == 0 {
			idle++
			continue
		}
		idle = 0
		w.allDone(list)
		for i := range list {
			got[list[i].Repo]++
		}
	}
	return got
}

// A group that is made late gets everything that is retained, however many lanes
// that are, and with windows that hold only some of them.
func TestLateGroupGetsEverything(t *testing.T) {
	for _, c := range []struct {
		name          string
		window, items int
	}{
		{"windows smaller than what one command indexes", 8, 50},
		{"windows bigger than that", 50, 8},
		{"as by default", DefaultDeliveryConfig().WindowLanes, int(DefaultDeliveryConfig().MaintainItems)},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				d := newDesk(t, func(s *deskSettings) {
					s.delivery.WindowLanes, s.delivery.MaintainItems = c.window, uint32(c.items)
				})
				const repos = 300
				for i := range repos {
					d.send(fmt.Sprint("r", i), 2)
				}
				got := d.open(SessionConfig{Credit: 16}).workOff()
				if len(got) != repos {
					t.Fatalf("%d of %d repositories came", len(got), repos)
				}
				for repo, n := range got {
					if n != 2 {
						t.Errorf("%d packets of %s, want 2", n, repo)
					}
				}
			})
		})
	}
}

// More lanes turn runnable than a window holds: each is found, by its event or by
// the next page.
func TestMoreLanesThanAWindowHolds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, func(s *deskSettings) { s.delivery.WindowLanes = 8 })
		w := d.open(SessionConfig{Credit: 1})
		pass(time.Second)
		for i := range 200 {
			d.send(fmt.Sprint("r", i), 1)
		}
		w.SetCredit(4)
		if got := w.workOff(); len(got) != 200 {
			t.Errorf("%d of 200 repositories came", len(got))
		}
	})
}

// Within a partition no lower priority runs before a higher one, also when there is
// more of that than a window holds.
func TestPriorityBeyondTheWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, func(s *deskSettings) { s.relay.Partitions, s.delivery.WindowLanes = 1, 8 })
		d.group("g", nil)
		const lanes = 40
		for i := range lanes {
			d.publish(packet(wire.PacketFields{RepoID: fmt.Sprint("high", i), Priority: 1}))
		}
		w := d.open(SessionConfig{Credit: 1})
		pass(time.Second)
		for i := range lanes {
			d.publish(packet(wire.PacketFields{RepoID: fmt.Sprint("low", i), Priority: 2}))
		}
		for i := range 2 * lanes {
			b := w.take(1)
			if high := b[0].Repo[0] == 'h'; high != (i < lanes) {
				t.Fatalf("delivery %d is of %s", i, b[0].Repo)
			}
			w.allDone(b)
		}
	})
}

// A packet that is to be delivered later is, and holds up neither another
// repository nor another priority of its own.
func TestDelayedPackets(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		w := d.open(SessionConfig{Credit: 100})
		start := time.Now()
		for _, f := range []wire.PacketFields{
			{RepoID: "r", DeliverAfter: time.Minute},
			{RepoID: "r"}, // behind the delayed one: order within a priority
			{RepoID: "r", Priority: 2},
			{RepoID: "s"},
		} {
			if a := d.publish(packet(f)); a[0].refusal != nil {
				t.Fatal(a[0].refusal)
			}
		}
		got := map[string]string{}
		for _, x := range w.take(2) {
			got[x.Repo] = fmt.Sprint(x.Seq)
			w.allDone([]Delivery{x})
		}
		if got["r"] != "3" || got["s"] != "1" {
			t.Errorf("at once: %v", got)
		}
		pass(59 * time.Second)
		w.nothing()
		w.want(2, "[1 2]")
		if waited := time.Since(start).Round(time.Millisecond); waited < time.Minute || waited > time.Minute+100*time.Millisecond {
			t.Errorf("delivered after %v, want a minute", waited)
		}
	})
}

// A lane that turns ready again and again while somebody looks at it is not lost
// and not served twice at once.
func TestBusyLane(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", func(c *repository.GroupConfig) { c.MaxBatch = 2 })
		workers := []*worker{d.open(SessionConfig{Credit: 2}), d.open(SessionConfig{Credit: 2})}
		want, token := repository.Seq(1), repository.Token(0)
		for i := range 100 {
			d.send("r", 1+i%3)
			for _, w := range workers {
				list := w.Take(10, nil)
				for _, x := range list {
					if x.Seq != want || x.Attempt != 1 || x.Token < token {
						t.Fatalf("delivered %d under %d as attempt %d, want %d under %d or later", x.Seq, x.Token, x.Attempt, want, token)
					}
					want, token = want+1, x.Token
				}
				w.settle(dones(list)...)
			}
			if i%10 == 0 {
				pass(time.Millisecond)
			}
		}
	})
}
