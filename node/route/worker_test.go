package route

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
)

func TestWorkOverThreeNodes(t *testing.T) {
	for _, credit := range []int{1, 7, 1000} {
		t.Run(fmt.Sprint("credit ", credit), func(t *testing.T) {
			c := newTrio(t, nil)
			total := c.send(3, 5)
			w := c.worker(0, "w", credit)
			w.work(total)
			total += c.send(2, 3) // what comes later is found as well
			w.work(total)
			if w.stale > 0 {
				t.Errorf("%d stale", w.stale)
			}
			w.session.Close()
		})
	}
}

// As long as a node was not reached or looks for packets, more may come; when
// nothing is pending, everything that there was has come. A worker that is to end
// when there is nothing left goes by it.
func TestNothingIsPendingOnceAllHasCome(t *testing.T) {
	c := newTrio(t, nil)
	total := c.send(2, 5)
	for i := range 3 {
		w := c.worker(i, fmt.Sprint("w", i), 1000)
		if i > 0 { // everything is leased to the first one
			total = 0
		}
		for pending := true; pending; {
			pending = w.session.Pending()
			if w.take() == 0 && pending {
				select {
				case <-w.session.Ready():
				case <-time.After(5 * time.Millisecond):
				}
			}
		}
		if len(w.held) != total {
			t.Errorf("worker %d: nothing is pending, and %d packets of %d came", i, len(w.held), total)
		}
		defer w.session.Close()
	}
	c.w.lead(1, -1)
	lone := c.worker(0, "lone", 10)
	await(t, "a partition without a leader to be pending", lone.session.Pending)
	lone.session.Close()
}

// Nobody starves: packets of one node don't keep those of another waiting, with
// the smallest credit there is.
func TestNoNodeStarves(t *testing.T) {
	c := newTrio(t, nil)
	c.send(20, 1)
	w := c.worker(2, "w", 1)
	// A node whose stream is not open yet cannot take its turn.
	await(t, "all nodes to be reached", func() bool { return reached(w.session.(*session)) })
	leaders := map[int]int{}
	for len(leaders) < 3 || leaders[0] == 0 {
		if w.take() == 0 {
			w.next()
			continue
		}
		p := int(c.nodes[0].relay.PartitionOf([]byte(w.held[0].Repo)))
		leaders[p%3]++
		if leaders[0]+leaders[1]+leaders[2] > 60 {
			t.Fatalf("packets by leader: %v", leaders)
		}
		w.settle(1)
	}
	w.work(w.count())
	w.session.Close()
}

// reached says whether a session has a stream to every other node that leads.
func reached(s *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, to := range s.r.table.Load().targets {
		if x := s.subs[to.node]; !to.local && (x == nil || !x.up) {
			return false
		}
	}
	return true
}

func TestWorkersShare(t *testing.T) {
	c := newTrio(t, nil)
	var workers []*worker
	for i := range 6 {
		workers = append(workers, c.worker(i%3, fmt.Sprint("w", i), 4))
	}
	total := c.send(5, 4)
	sum := func() (n int) {
		for _, w := range workers {
			n += w.count()
		}
		return n
	}
	var running sync.WaitGroup
	for _, w := range workers {
		running.Go(func() {
			deadline := time.Now().Add(patience)
			for sum() < total && !t.Failed() && time.Now().Before(deadline) {
				if w.take() == 0 {
					w.next()
				}
				w.settle(1 << 30)
			}
		})
	}
	running.Wait()
	if sum() != total {
		t.Errorf("%d settled of %d", sum(), total)
	}
	for _, w := range workers {
		w.session.Close()
	}
}

func TestFailoverInTheMidstOfLeases(t *testing.T) {
	c := newTrio(t, nil)
	total := c.send(2, 6)
	w := c.worker(0, "w", 1000)
	for w.take(); len(w.held) < total; w.take() {
		w.next()
	}
	// Half of them are settled, and every leader changes.
	w.settle(total / 2)
	for p := range testPartitions {
		c.w.lead(repository.PartitionID(p), (p+1)%3)
	}
	w.settle(total / 4)
	c.settled()
	w.work(total)
	// Nothing is left anywhere, and what comes now is found.
	total += c.send(1, 2)
	w.work(total)
	if w.stale > 0 {
		t.Errorf("%d stale", w.stale)
	}
	w.session.Close()
}

func TestWorkWhileLeadersChange(t *testing.T) {
	c := newTrio(t, nil)
	w := c.worker(1, "w", 16)
	stop := make(chan struct{})
	var switching sync.WaitGroup
	switching.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(40 * time.Millisecond):
				c.w.lead(repository.PartitionID(i%testPartitions), (i/testPartitions+i)%3)
			}
		}
	})
	total := 0
	for p := range testPartitions {
		for r := range 3 {
			x := &producer{t: t, n: c.nodes[p%3], repo: c.repoIn(p, r), name: "p", sink: newSink(t), placed: map[uint64]uint64{}}
			for next := uint64(1); next <= 20 && !t.Failed(); {
				next = x.send(next, 20)
			}
			total += 20
		}
	}
	w.work(total)
	close(stop)
	switching.Wait()
	c.settled()
	w.session.Close()
}

// A node that is gone takes its streams with it; its partitions' new leaders hand
// out what it did not, and take what it was settled.
func TestNodeGoneInTheMidstOfLeases(t *testing.T) {
	c := newTrio(t, nil)
	total := c.send(2, 6)
	w := c.worker(0, "w", 20)
	for w.take(); len(w.held) < 20; w.take() {
		w.next()
	}
	c.w.hold(1, true)
	w.settle(1 << 30)
	c.nodes[1].server.Stop()
	c.w.hold(1, false)
	c.w.lead(1, 2)
	c.w.lead(4, 0)
	c.crash(1)
	c.settled()
	w.work(total)
	w.session.Close()
}

func TestWorkerComesBackAtAnotherNode(t *testing.T) {
	c := newTrio(t, nil)
	total := c.send(1, 5)
	w := c.worker(0, "w", 1000)
	for w.take(); len(w.held) < total; w.take() {
		w.next()
	}
	w.settle(total / 3)
	await(t, "settlements", func() bool { return w.count() == total/3 })
	x := c.worker(1, "w", 1000)
	select {
	case <-w.session.Done():
	case <-time.After(patience):
		t.Fatal("the former session goes on")
	}
	if err := refusalIn(w.session.Err()); err.Field != "worker" || !err.Retriable() {
		t.Errorf("the former session ended with %v", w.session.Err())
	}
	x.work(total - total/3)
	if x.stale > 0 {
		t.Errorf("%d stale", x.stale)
	}
	w.session.Close()
	x.session.Close()
}

func TestRetryAndDeadEndTheirLease(t *testing.T) {
	c := newTrio(t, nil)
	c.send(1, 6)
	w := c.worker(0, "w", 12)
	for w.take(); len(w.held) < 12; w.take() {
		w.next()
	}
	w.mu.Lock()
	list := w.held
	w.held = nil
	w.mu.Unlock()
	// The first of each lease is dead, of which the rest goes back with no word.
	seen := map[string]bool{}
	for _, d := range list {
		if seen[d.Repo] {
			continue
		}
		seen[d.Repo] = true
		done := make(chan actors.SettlementOutcome, 1)
		w.session.Settle([]actors.Settlement{{Repo: d.Repo, Seq: d.Seq, Token: d.Token, Outcome: actors.OutcomeDead, Error: "why"}},
			func(out []actors.SettlementOutcome) { done <- out[0] })
		if x := <-done; x.Refusal != nil || x.Repo != d.Repo || x.Seq != d.Seq {
			t.Errorf("%+v", x)
		}
	}
	w.work(testPartitions*6 - len(seen))
	w.session.Close()
}

func TestDrainedWorkerLeavesNothingBehind(t *testing.T) {
	c := newTrio(t, nil)
	total := c.send(2, 4)
	w := c.worker(0, "", 10)
	for w.take(); len(w.held) < 10; w.take() {
		w.next()
	}
	w.session.Drain()
	w.settle(3)
	await(t, "settlements", func() bool { return w.count() == 3 })
	w.session.Release()
	w.session.Close()
	x := c.worker(2, "x", 1000)
	x.work(total - 3) // at once, and not when leases have run out
	x.session.Close()
}

func TestRenewThroughASession(t *testing.T) {
	c := newTrio(t, nil)
	total := c.send(1, 1)
	w := c.worker(0, "w", 1000)
	for w.take(); len(w.held) < total; w.take() {
		w.next()
	}
	var refs []actors.LeaseRef
	for _, d := range w.held {
		refs = append(refs, actors.LeaseRef{Repo: d.Repo, Token: d.Token})
	}
	refs = append(refs, actors.LeaseRef{Repo: refs[1].Repo, Token: 1})
	got := make(chan actors.RenewOutcome, len(refs))
	w.session.Renew(refs, func(out []actors.RenewOutcome) {
		for _, x := range out {
			got <- x
		}
	})
	for range refs {
		x := <-got
		if x.Repo != refs[x.Index].Repo || x.Token != refs[x.Index].Token {
			t.Errorf("%+v, want %+v", x, refs[x.Index])
		}
		if stale := x.Index == len(refs)-1; stale != (x.Refusal != nil) || !stale && x.ExpiresMs == 0 {
			t.Errorf("renewal %d: %+v", x.Index, x)
		}
	}
	w.work(total)
	w.session.Close()
}

func TestPullOverThreeNodes(t *testing.T) {
	c := newTrio(t, nil)
	total := c.send(2, 2)
	d := c.nodes[1].router.Delivery()
	got := map[string]bool{}
	for len(got) < total {
		list, err := d.Pull(t.Context(), actors.PullConfig{Group: "g", Worker: "ci", Max: 7, WaitMs: 30_000})
		if err != nil || len(list) == 0 || len(list) > 7 {
			t.Fatalf("%d packets, %v", len(list), err)
		}
		again, err := c.nodes[2].router.Delivery().Pull(t.Context(), actors.PullConfig{Group: "g", Worker: "ci", Max: 7, WaitMs: 30_000})
		if err != nil || len(again) != len(list) {
			t.Fatalf("%d packets again of %d, %v", len(again), len(list), err)
		}
		var settle []actors.Settlement
		for _, x := range again {
			if !x.Redelivered {
				t.Errorf("%s %d is not redelivered", x.Repo, x.Seq)
			}
			got[fmt.Sprint(x.Repo, x.Seq)] = true
			settle = append(settle, actors.Settlement{Repo: x.Repo, Seq: x.Seq, Token: x.Token, Outcome: actors.OutcomeDone})
		}
		out, err := d.Settle(t.Context(), "g", settle)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range out {
			if x.Refusal != nil {
				t.Errorf("settle %s %d: %v", x.Repo, x.Seq, x.Refusal)
			}
		}
	}
	begun := time.Now()
	list, err := d.Pull(t.Context(), actors.PullConfig{Group: "g", Worker: "ci", WaitMs: 50})
	if err != nil || len(list) != 0 || time.Since(begun) < 50*time.Millisecond {
		t.Errorf("%d packets after %v, %v", len(list), time.Since(begun), err)
	}
	if _, err := d.Pull(t.Context(), actors.PullConfig{Group: "g", Max: 5000}); refusalIn(err).Field != "max" {
		t.Errorf("too many: %v", err)
	}
}

func TestSessionOfANodeThatLedAllEndsWhenOthersLead(t *testing.T) {
	c := newTrio(t, nil)
	for p := range testPartitions {
		c.w.lead(repository.PartitionID(p), 0)
	}
	c.settled()
	total := c.send(1, 2)
	w := c.worker(0, "w", 4)
	if _, ok := w.session.(*direct); !ok {
		t.Fatalf("a %T stands between the worker and its session", w.session)
	}
	for w.take(); len(w.held) < 4; w.take() {
		w.next()
	}
	c.w.lead(1, 1)
	select {
	case <-w.session.Done():
	case <-time.After(patience):
		t.Fatal("the session goes on")
	}
	if !refusalIn(w.session.Err()).Retriable() {
		t.Errorf("it ended with %v", w.session.Err())
	}
	w.session.Close()
	c.settled()
	x := c.worker(0, "w", 4)
	x.work(total)
	x.session.Close()
}
