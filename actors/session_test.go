package actors

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
)

// A worker that comes back under its name gets its open grants again, under their
// tokens and uncharged: what it had in hand, and what never reached it.
func TestWorkerComesBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 5)
		first := d.open(SessionConfig{Worker: "ci-7", Credit: 10})
		b := first.want(3, "[1 2 3]")
		first.settle(done(&b[0])).want("OK")
		first.Close() // the stream broke
		d.open(SessionConfig{Worker: "ci-8", Credit: 10}).nothing()
		again := d.open(SessionConfig{Worker: "ci-7", Credit: 10})
		c := again.want(4, "[2 3 4 5]")
		for i := range c {
			if !c[i].Redelivered || c[i].Token != b[0].Token || c[i].Attempt != 1 {
				t.Errorf("delivered again: %+v", c[i])
			}
		}
		if n := again.Held(); n != 4 {
			t.Errorf("holds %d, want 4", n)
		}
		again.allDone(c)
	})
}

// The same, while the first connection seems to live still: it is ended, and says why.
func TestWorkersNameIsTaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 2)
		first := d.open(SessionConfig{Worker: "ci-7", Credit: 10})
		b := first.want(2, "[1 2]")
		second := d.open(SessionConfig{Worker: "ci-7", Credit: 10})
		select {
		case <-first.Done():
		default:
			t.Fatal("the first session goes on")
		}
		if err := first.Err(); refusalIn(err) == nil || refusalIn(err).Field != "worker" {
			t.Errorf("ended with %v", err)
		}
		if got := first.Take(10, nil); len(got) > 0 {
			t.Errorf("the ended session got %s", seqs(got))
		}
		c := second.want(2, "[1 2]")
		first.settle(done(&b[0])).want("OK") // it may have been done there
		first.Close()
		second.settle(done(&c[0]), done(&c[1])).want("OK", "OK")
		if err := second.Err(); err != nil {
			t.Errorf("the second session ended: %v", err)
		}
	})
}

// A broken stream of a worker without a name frees nothing that it had, and all
// that it had not.
func TestClosedSessionKeepsWhatItHas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", func(c *repository.GroupConfig) { c.MaxBatch = 4 })
		d.send("had", 1)
		w := d.open(SessionConfig{Credit: 8, LeaseMs: 5000})
		had := w.want(1, "[1]")
		d.send("half", 4)
		half := w.want(2, "[1 2]")
		d.send("new", 4)
		pass(time.Millisecond) // granted, and not handed out
		w.Close()
		other := d.open(SessionConfig{Credit: 100})
		fresh := other.want(4, "[1 2 3 4]")
		for i := range fresh {
			if fresh[i].Repo != "new" || fresh[i].Attempt != 1 {
				t.Errorf("got %+v", fresh[i])
			}
		}
		other.allDone(fresh)
		other.nothing()
		w.settle(done(&half[0])).want("OK") // a closed session's settlements are as good as others
		w.settle(done(&half[1])).want("OK")
		other.allDone(other.want(2, "[3 4]")) // what went back behind what was had
		pass(5 * time.Second)
		w.settle(done(&had[0])).want(CodeStaleLease)
		if again := other.want(1, "[1]"); again[0].Repo != "had" || again[0].Attempt != 2 {
			t.Errorf("after the lease: %+v", again[0])
		}
	})
}

// A drained session gets nothing more; what it never got goes to others at once
// and uncharged, what it has it may settle and renew.
func TestDrainedSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", func(c *repository.GroupConfig) { c.MaxBatch = 4 })
		d.send("r", 8)
		w := d.open(SessionConfig{Credit: 8})
		b := w.want(2, "[1 2]")
		w.Drain()
		w.nothing()
		d.send("other", 1)
		w.nothing()
		if x, ok := w.renew(refOf(&b[0])).answer(0); !ok || x.Refusal != nil {
			t.Errorf("renewal of a drained session: %+v, %v", x, ok)
		}
		w.allDone(b)
		next := d.open(SessionConfig{Credit: 8})
		got := map[string]int{}
		for _, x := range next.take(5) {
			got[x.Repo]++
			if x.Attempt != 1 {
				t.Errorf("%s %d was charged: attempt %d", x.Repo, x.Seq, x.Attempt)
			}
		}
		if got["r"] != 4 || got["other"] != 1 {
			t.Errorf("the next worker got %v", got)
		}
	})
}

// A worker that gives up says so: even what it has in hand goes back at once.
func TestReleasedSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 4)
		w := d.open(SessionConfig{Credit: 8})
		b := w.want(3, "[1 2 3]")
		w.settle(done(&b[0])).want("OK")
		late := w.settle(done(&b[2]))
		w.Release()
		late.want(CodeStaleLease)
		w.nothing()
		c := d.open(SessionConfig{Credit: 8}).want(3, "[2 3 4]")
		for i := range c {
			if c[i].Attempt != 1 {
				t.Errorf("%d was charged: attempt %d", c[i].Seq, c[i].Attempt)
			}
		}
		w.settle(done(&b[1])).want(CodeStaleLease)
	})
}

// The worker holds no more than its credit, however many lanes there are, and gets
// more as it settles.
func TestCreditIsNeverExceeded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		for i := range 20 {
			d.send(fmt.Sprint("r", i), 7)
		}
		const credit = 10
		w := d.open(SessionConfig{Credit: credit})
		var held []Delivery
		for settled := 0; settled < 140; {
			pass(time.Millisecond)
			held = w.Take(1000, held)
			if len(held) > credit {
				t.Fatalf("%d packets in the worker's hands, credit %d", len(held), credit)
			}
			if len(held) == 0 {
				t.Fatalf("nothing to do after %d of 140", settled)
			}
			n := 1 + settled%len(held)
			w.allDone(held[:n])
			held, settled = held[n:], settled+n
		}
		if n := w.Held(); n != 0 {
			t.Errorf("%d packets count as held at the end", n)
		}
	})
}

func TestCreditChanges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		for i := range 10 {
			d.send(fmt.Sprint("r", i), 1)
		}
		w := d.open(SessionConfig{Credit: 2})
		b := w.take(2)
		w.nothing()
		w.SetCredit(5)
		b = append(b, w.take(3)...)
		w.nothing()
		w.SetCredit(3)
		w.allDone(b[:2]) // holds three still
		w.nothing()
		w.SetCredit(0) // says nothing
		w.allDone(b[2:4])
		w.take(2)
		w.nothing()
	})
}

// What becomes of a session's settings.
func TestSessionSettings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, func(s *deskSettings) { s.delivery.MaxCredit = 5 })
		for _, c := range []struct {
			cfg   SessionConfig
			field string
		}{
			{SessionConfig{}, "group"},
			{SessionConfig{Group: string(make([]byte, 129))}, "group"},
			{SessionConfig{Group: "\xff"}, "group"},
			{SessionConfig{Group: "g", Worker: string(make([]byte, 129))}, "worker"},
			{SessionConfig{Group: "g", Worker: "\xff"}, "worker"},
			{SessionConfig{Group: "g", LeaseMs: 999}, "lease_ms"},
			{SessionConfig{Group: "g", LeaseMs: 43_200_001}, "lease_ms"},
		} {
			_, err := d.service.Open(context.Background(), c.cfg)
			if r := refusalIn(err); r == nil || r.Code != CodeInvalidArgument || r.Field != c.field {
				t.Errorf("%+v: got %v, want a refusal of %s", c.cfg, err, c.field)
			}
		}
		d.group("g", func(c *repository.GroupConfig) { c.LeaseMs, c.MaxBatch = 7000, 3 })
		d.send("r", 10)
		w := d.open(SessionConfig{})
		b := w.want(3, "[1 2 3]") // one batch
		if b[0].LeaseMs != 7000 {
			t.Errorf("a lease of %d ms", b[0].LeaseMs)
		}
		w.nothing()
		w.allDone(b)
		w.Close()
		greedy := d.open(SessionConfig{Credit: 1000, MaxBatch: 1000})
		greedy.want(3, "[4 5 6]") // no more than the group's batch
		for i := range 10 {
			d.send(fmt.Sprint("s", i), 1)
		}
		greedy.take(2) // no more than the service's credit
		greedy.nothing()
	})
}

// Sessions share what there is.
func TestSessionsShareLanes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		workers := []*worker{d.open(SessionConfig{Credit: 4}), d.open(SessionConfig{Credit: 4}), d.open(SessionConfig{Credit: 4})}
		for i := range 12 {
			d.send(fmt.Sprint("r", i), 1)
		}
		seen := map[string]bool{}
		for _, w := range workers {
			for _, x := range w.take(4) {
				if seen[x.Repo] {
					t.Errorf("%s was delivered to two", x.Repo)
				}
				seen[x.Repo] = true
			}
		}
	})
}

// A group is its own: what one has settled, another has still to do.
func TestGroupsAreIndependent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		a, b := d.open(SessionConfig{Group: "a", Credit: 10}), d.open(SessionConfig{Group: "b", Credit: 10})
		d.send("r", 2)
		ga := a.want(2, "[1 2]")
		gb := b.want(2, "[1 2]")
		a.allDone(ga)
		b.settle(Settlement{Repo: "r", Seq: 1, Token: ga[0].Token + 1000, Outcome: OutcomeDone}).want(CodeStaleLease)
		b.settle(retry(&gb[0], "no")).want("OK")
		if a.Take(10, nil) != nil {
			t.Error("a retry of one group came to the other")
		}
		b.allDone(b.want(1, "[1]"))
	})
}

func TestStoppedServiceEndsItsSessions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 2)
		notified := make(chan struct{}, 100)
		w := d.open(SessionConfig{Credit: 10, Notify: func() { notified <- struct{}{} }})
		b := w.want(2, "[1 2]")
		open := w.settle(done(&b[1]))
		pulled := make(chan error, 1)
		go func() {
			_, err := d.service.Pull(context.Background(), PullConfig{Group: "g", WaitMs: 60_000})
			pulled <- err
		}()
		pass(time.Second)
		for len(notified) > 0 {
			<-notified
		}
		for range 2 {
			if err := d.service.Stop(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		<-w.Done()
		if err := w.Err(); refusalIn(err) == nil || refusalIn(err).Code != CodeUnavailable {
			t.Errorf("the session ended with %v", err)
		}
		if len(notified) == 0 {
			t.Error("the session was not told")
		}
		if err := <-pulled; refusalIn(err) == nil || refusalIn(err).Code != CodeUnavailable {
			t.Errorf("the pull ended with %v", err)
		}
		open.want(CodeUnavailable)
		w.settle(done(&b[0])).want(CodeUnavailable)
		if _, err := d.service.Open(context.Background(), SessionConfig{Group: "g"}); refusalIn(err) == nil || refusalIn(err).Code != CodeUnavailable {
			t.Errorf("opened after the stop: %v", err)
		}
	})
}
