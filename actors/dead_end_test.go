package actors

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
)

// end orders something to be done to all that o names, page by page.
func (d *desk) end(o DeadOrder) (count int) {
	d.t.Helper()
	for {
		done, err := d.service.EndDead(d.t.Context(), o)
		if err != nil {
			d.t.Fatalf("end dead letters %+v: %v", o, err)
		}
		if o.Limit > 0 && done.Looked > int(o.Limit) {
			d.t.Fatalf("looked at %d, want %d at most", done.Looked, o.Limit)
		}
		count += done.Count
		if o.Cursor = done.Next; o.Cursor == "" {
			return count
		}
	}
}

func policy(p repository.OrderPolicy) func(*repository.GroupConfig) {
	return func(c *repository.GroupConfig) { c.OrderPolicy = p }
}

// What was redriven comes again in its old order, under new numbers, behind what
// waits; and only once.
func TestRedrivenInOrder(t *testing.T) {
	for _, limit := range []uint32{0, 1, 3} {
		bubble(t, func(t *testing.T) {
			d := newDesk(t, func(s *deskSettings) { s.relay.Partitions = 3 })
			w := d.open(SessionConfig{Credit: 1})
			for _, repo := range []string{"a", "b", "c"} {
				d.send(repo, 3)
				for range 3 {
					x := w.take(1)
					w.settle(dead(&x[0], "why")).want("OK")
				}
			}
			order := DeadOrder{Action: repository.DeadRedrive, DeadQuery: DeadQuery{Group: "g", Limit: limit}}
			if n := d.end(order); n != 9 {
				t.Fatalf("redrove %d, want 9", n)
			}
			next := map[string]repository.Seq{}
			for range 9 {
				x := w.take(1)[0]
				next[x.Repo]++
				if x.RedriveOf != next[x.Repo] || x.Seq != 3+next[x.Repo] || x.Attempt != 1 {
					t.Errorf("got %s %d of %d, attempt %d", x.Repo, x.Seq, x.RedriveOf, x.Attempt)
				}
				w.allDone([]Delivery{x})
			}
			if n := d.end(order); n != 0 || len(d.dead(DeadQuery{Group: "g"})) != 0 {
				t.Errorf("%d dead letters are left", n)
			}
			w.nothing()
		})
	}
}

// A group that blocks gives out nothing behind a dead letter until somebody has
// looked at it; other repositories go on.
func TestBlockedLane(t *testing.T) {
	for _, action := range []repository.DeadAction{repository.DeadRedrive, repository.DeadDiscard} {
		bubble(t, func(t *testing.T) {
			d := newDesk(t, nil)
			d.group("g", policy(repository.OrderBlock))
			w := d.open(SessionConfig{Credit: 100})
			d.send("r", 3)
			x := w.want(3, "[1 2 3]")
			w.settle(done(&x[0]), dead(&x[1], "broken")).want("OK", "OK")
			pass(time.Hour)
			w.nothing()
			d.send("other", 1)
			w.allDone(w.want(1, "[1]"))
			if n := d.end(DeadOrder{Action: action, DeadQuery: DeadQuery{Group: "g", Repo: "r"}, Seq: 2}); n != 1 {
				t.Fatalf("%d done, want 1", n)
			}
			if action == repository.DeadRedrive {
				w.allDone(w.want(2, "[2 3]"))
			} else {
				w.allDone(w.want(1, "[3]"))
			}
		})
	}
}

// A group that parks makes dead letters of all that waits behind one; what comes
// later runs.
func TestParkedLane(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", policy(repository.OrderPark))
		d.send("r", 200)
		w := d.open(SessionConfig{Credit: 1})
		x := w.want(1, "[1]")
		w.settle(dead(&x[0], "broken")).want("OK")
		await(t, "the parking", func() bool {
			pass(time.Second)
			return len(d.dead(DeadQuery{Group: "g", Reason: "parked", Limit: 1000})) == 199
		})
		d.send("r", 1)
		w.allDone(w.want(1, "[201]"))
		if n := d.end(DeadOrder{Action: repository.DeadRedrive, DeadQuery: DeadQuery{Group: "g", Reason: "parked"}}); n != 199 {
			t.Fatalf("redrove %d, want 199", n)
		}
		for i := range 199 {
			x := w.take(1)
			if int(x[0].RedriveOf) != i+2 {
				t.Fatalf("parked packet %d comes as the %dth", x[0].RedriveOf, i+2)
			}
			w.allDone(x)
		}
	})
}

func TestDeadOrdersRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", nil)
		for _, c := range []struct {
			o     DeadOrder
			field string
		}{
			{DeadOrder{}, "group"},
			{DeadOrder{DeadQuery: DeadQuery{Group: "nobody"}}, "group"},
			{DeadOrder{DeadQuery: DeadQuery{Group: "g", Reason: "boredom"}}, "reason"},
			{DeadOrder{DeadQuery: DeadQuery{Group: "g", Limit: 1001}}, "limit"},
			{DeadOrder{DeadQuery: DeadQuery{Group: "g"}, Seq: 3}, "repo_id"},
			{DeadOrder{DeadQuery: DeadQuery{Group: "g", Cursor: "x"}}, "cursor"},
		} {
			c.o.Action = repository.DeadRedrive
			_, err := d.service.EndDead(context.Background(), c.o)
			if r := refusalIn(err); r == nil || r.Field != c.field {
				t.Errorf("%+v: got %v", c.o, err)
			}
		}
	})
}

// Each attempt's failure is kept with the dead letter; one that killed all its
// workers is poison.
func TestFailuresAreKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", func(c *repository.GroupConfig) { c.MaxAttempts, c.LeaseMs = 3, 1000 })
		d.send("told", 1)
		w := d.open(SessionConfig{Credit: 4})
		for i := range 3 {
			x := w.take(1)
			w.settle(retry(&x[0], fmt.Sprint("broken ", i))).want("OK")
		}
		d.send("silent", 1)
		for range 3 {
			w.take(1)
		}
		await(t, "the last lease's end", func() bool {
			pass(time.Second)
			return len(d.dead(DeadQuery{Group: "g"})) == 2
		})
		for _, x := range d.dead(DeadQuery{Group: "g"}) {
			want, text := repository.ReasonAttempts, "broken 2"
			if x.Repo == "silent" {
				want, text = repository.ReasonPoison, "lease expired"
			}
			if x.Reason != want || len(x.Failures) != 3 || x.Error() != text || x.Failures[0].AtMs >= x.Failures[2].AtMs {
				t.Errorf("dead letter %+v, want %v", x, want)
			}
		}
	})
}
