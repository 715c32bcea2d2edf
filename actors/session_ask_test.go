package actors

import (
	"fmt"
	"testing"
	"time"
)

// asker is a worker whose credit is somewhere else: lent counts what it asked for
// and has neither got nor got back.
type asker struct {
	*worker
	lent  int
	ready bool
	got   []Delivery
}

func (d *desk) asker(name string) *asker {
	d.t.Helper()
	return &asker{worker: d.open(SessionConfig{Worker: name, Ask: true})}
}

func (a *asker) ask(n int) {
	a.lent += n
	a.ready = false
	a.Ask(uint32(n))
}

// look takes what is there. Only in a bubble.
func (a *asker) look() {
	a.d.t.Helper()
	pass(0)
	list := a.Take(1000, nil)
	for i := range list {
		if !list[i].Redelivered {
			a.lent--
		}
	}
	a.got = append(a.got, list...)
	returned, ready := a.Notes()
	a.lent -= returned
	a.ready = a.ready || ready
	if a.lent < 0 {
		a.d.t.Fatalf("%d more than was asked for", -a.lent)
	}
}

func (a *asker) want(lent, got int, ready bool) {
	a.d.t.Helper()
	a.look()
	if a.lent != lent || len(a.got) != got || a.ready != ready {
		a.d.t.Fatalf("%d lent, %d got, ready %v; want %d, %d, %v", a.lent, len(a.got), a.ready, lent, got, ready)
	}
}

func TestAskedSessionHoldsNoIdleCredit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		a := d.asker("w")
		a.want(0, 0, false)
		a.ask(5)
		pass(time.Second)
		a.want(0, 0, false) // nothing there: all is returned
		d.send("one", 3)
		a.want(0, 0, true) // and it is said once that something came
		d.send("two", 3)
		a.ready = false
		a.want(0, 0, false)
		a.ask(2)
		a.want(0, 2, true) // and so it is when there is more than was asked for
		a.allDone(a.got)
		a.want(0, 2, true) // what it settled gave it no credit to take more with
		a.ask(100)
		pass(time.Second)
		a.want(0, 6, false)
		a.allDone(a.got[2:])
		pass(time.Second)
		a.want(0, 6, false)
	})
}

func TestAskIsGivenBackWhateverHappens(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		a := d.asker("w")
		for i := range 4 {
			d.send(fmt.Sprint("repo-", i), 4)
		}
		a.ask(6)
		pass(time.Second) // granted, and not taken
		d.proposer.resign(d.partition("repo-0").Group())
		d.proposer.resign(d.partition("repo-1").Group())
		pass(time.Second)
		a.look()
		if a.lent != 0 {
			t.Fatalf("%d lent after the partitions are led elsewhere", a.lent)
		}
		for _, p := range d.relay.Partitions() {
			if _, ok := p.Leading(); !ok {
				d.proposer.lead(p.Group())
			}
		}
		d.awaitLeading()
		pass(time.Second)
		a.look()
		a.lent = 0
		a.ask(20)
		pass(time.Second)
		a.look()
		if a.lent != 0 {
			t.Fatalf("%d lent", a.lent)
		}
		// A failure ends a batch of which not all was handed out.
		d.send("late", 4)
		pass(time.Second)
		a.ask(4)
		pass(time.Second)
		first := a.Take(1, nil)
		a.lent--
		a.settle(retry(&first[0], "why"))
		pass(time.Millisecond)
		a.look()
		if a.lent != 0 {
			t.Fatalf("%d lent after a failure", a.lent)
		}
		a.ask(3)
		a.Drain()
		pass(time.Second)
		a.look()
		if a.lent != 0 {
			t.Fatalf("%d lent after a drain", a.lent)
		}
	})
}

func TestReadyLanesGoToAnotherWhoIsDeclined(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		a, b := d.asker("a"), d.asker("b")
		a.ask(1)
		b.ask(1)
		pass(time.Second)
		a.want(0, 0, false)
		b.want(0, 0, false)
		d.send("one", 1)
		a.look()
		b.look()
		if a.ready == b.ready {
			t.Fatalf("ready: %v and %v, want one of them", a.ready, b.ready)
		}
		if b.ready {
			a, b = b, a
		}
		a.Ask(0)
		b.want(0, 0, true)
		b.ask(1)
		b.want(0, 1, false)
		// One that never answers holds nothing up for long.
		a.ask(1)
		a.want(0, 0, false)
		b.ask(1)
		b.want(0, 1, false)
		d.send("two", 1)
		pass(3 * time.Second)
		a.look()
		b.look()
		if !a.ready || !b.ready {
			t.Fatalf("ready: %v and %v, want both after a while", a.ready, b.ready)
		}
	})
}

func TestAnonymousAskedSessionComesBackToNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("one", 3)
		a := &asker{worker: d.open(SessionConfig{Worker: "x", Ask: true, Anonymous: true})}
		a.ask(3)
		pass(time.Second)
		a.Close() // nothing was handed out: it goes back
		b := d.asker("y")
		pass(time.Second)
		b.ask(3)
		if b.look(); b.lent != 0 || len(b.got) != 3 {
			t.Fatalf("%d lent, %d got", b.lent, len(b.got))
		}
		c := d.asker("y")
		if c.Redelivered() != 3 {
			t.Errorf("%d redelivered", c.Redelivered())
		}
		c.want(0, 3, false)
	})
}
