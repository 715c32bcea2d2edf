package actors

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
)

// ledger holds what workers see against what they were told.
type ledger struct {
	t  testing.TB
	mu sync.Mutex
	// By repository and number: settled for good, as its worker was told; or tried to.
	settled map[string]bool
	tokens  map[string]repository.Token // the newest of each repository
	last    map[string]repository.Seq   // the highest number delivered yet
	counts  map[string]int              // of answers, by code, and of what the storm did
}

func packetKey(d *Delivery) string { return fmt.Sprint(d.Repo, "/", d.Seq) }

// taken checks deliveries against what was known before they were taken.
func (l *ledger) taken(before map[string]bool, list []Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range list {
		d := &list[i]
		if before[packetKey(d)] {
			l.t.Errorf("%s/%d is delivered after its settlement was answered", d.Repo, d.Seq)
		}
		if d.Token < l.tokens[d.Repo] {
			l.t.Errorf("%s/%d is delivered under token %d, after %d", d.Repo, d.Seq, d.Token, l.tokens[d.Repo])
		}
		l.tokens[d.Repo] = d.Token
		if d.Seq > l.last[d.Repo]+1 {
			l.t.Errorf("%s/%d is delivered first after %d", d.Repo, d.Seq, l.last[d.Repo])
		}
		l.last[d.Repo] = max(l.last[d.Repo], d.Seq)
		if d.Redelivered {
			l.counts["redelivered"]++
		}
		if d.Attempt > 1 {
			l.counts["attempted again"]++
		}
	}
}

// known is a copy of what is settled by now.
func (l *ledger) known() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]bool, len(l.settled))
	for k := range l.settled {
		out[k] = true
	}
	return out
}

// answer notes what came of settlements.
func (l *ledger) answer(list []Settlement, out []SettlementOutcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range out {
		s := &list[out[i].Index]
		switch r := out[i].Refusal; {
		case r == nil:
			l.counts["settled"]++
			if s.Outcome != OutcomeRetry {
				l.settled[fmt.Sprint(s.Repo, "/", s.Seq)] = true
			}
		case r.Code == CodeStaleLease || r.Retriable() || r.Field == "outcome": // of a packet that was redelivered
			l.counts[r.Code]++
		default:
			l.t.Errorf("settle %s/%d: %s %v", s.Repo, s.Seq, r.Code, r)
		}
	}
}

// reckless is a worker that does everything a worker should not.
type reckless struct {
	d    *desk
	l    *ledger
	name string
	rng  *rand.Rand
	old  []Settlement // said before, to be said again
}

func (w *reckless) run(stop <-chan struct{}, calm <-chan struct{}) {
	for {
		s := w.d.open(SessionConfig{Worker: w.name, Credit: uint32(1 + w.rng.IntN(20)), LeaseMs: 1000})
		for again := true; again; {
			select {
			case <-stop:
				s.Close()
				return
			case <-s.Ready():
			case <-s.Done():
			case <-time.After(time.Duration(w.rng.IntN(300)) * time.Millisecond):
			}
			before := w.l.known()
			list := s.Take(1+w.rng.IntN(20), nil)
			w.l.taken(before, list)
			w.work(s, list, calm)
			select {
			case <-calm:
			default:
				again = w.rng.IntN(10) > 0
			}
		}
		if w.rng.IntN(2) == 0 {
			s.Drain()
		}
		s.Close()
	}
}

// work settles some of list, in some order, some of it twice, with what was said
// long ago among it.
func (w *reckless) work(s *worker, list []Delivery, calm <-chan struct{}) {
	chance := func(n int) bool {
		select {
		case <-calm:
			return false
		default:
			return w.rng.IntN(n) == 0
		}
	}
	var say []Settlement
	for i := range list {
		d := &list[i]
		switch {
		case chance(30): // forgotten: its lease has to run out
		case chance(15):
			say = append(say, retry(d, "reckless"))
		case chance(60):
			say = append(say, dead(d, "reckless"))
		default:
			say = append(say, done(d))
		}
	}
	if chance(4) {
		w.rng.Shuffle(len(say), func(i, j int) { say[i], say[j] = say[j], say[i] })
	}
	if chance(4) && len(w.old) > 0 {
		say = append(say, w.old[w.rng.IntN(len(w.old))])
	}
	w.old = append(w.old, say...)
	if chance(3) {
		<-time.After(time.Duration(w.rng.IntN(1500)) * time.Millisecond)
	}
	for len(say) > 0 {
		n := 1 + w.rng.IntN(len(say))
		part := say[:n:n]
		s.Settle(part, func(out []SettlementOutcome) { w.l.answer(part, out) })
		say = say[n:]
	}
}

// Under workers that forget, fail, mix up, come back and say things twice, under
// leases that run out, and under lost leaderships and dropped proposals: each
// packet is delivered first in its order, never after its settlement was answered,
// never under a token that falls; and everything gets done.
func TestDeliveryStorm(t *testing.T) {
	counts := map[string]int{}
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { deliveryStorm(t, seed, counts) })
		})
	}
	for _, what := range []string{"settled", "redelivered", "attempted again", CodeStaleLease, "changes of leadership"} {
		if counts[what] == 0 {
			t.Errorf("%s: 0; the storm was too weak: %v", what, counts)
		}
	}
}

func deliveryStorm(t *testing.T, seed uint64, counts map[string]int) {
	const repos, each, workers = 12, 60, 5
	d := newDesk(t, func(s *deskSettings) { s.delivery.WindowLanes = 4 })
	d.group("g", func(c *repository.GroupConfig) {
		c.MaxBatch, c.BackoffBaseMs, c.MaxAttempts = 5, 20, 1000
	})
	l := &ledger{
		t: t, settled: map[string]bool{}, tokens: map[string]repository.Token{},
		last: map[string]repository.Seq{}, counts: map[string]int{},
	}
	stop, calm := make(chan struct{}), make(chan struct{})
	var crew sync.WaitGroup
	for i := range workers {
		w := &reckless{d: d, l: l, name: fmt.Sprint("worker-", i), rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		crew.Go(func() { w.run(stop, calm) })
	}
	rng := rand.New(rand.NewPCG(seed, 99))
	for n := range each {
		for r := range repos {
			d.storm(fmt.Sprint("r", r), n)
		}
		pass(time.Duration(rng.IntN(200)) * time.Millisecond)
		switch rng.IntN(8) {
		case 0:
			d.changeLeader(rng)
			l.mu.Lock()
			l.counts["changes of leadership"]++
			l.mu.Unlock()
		case 1:
			d.proposer.mu.Lock()
			d.proposer.drop = 1 + rng.IntN(3)
			d.proposer.mu.Unlock()
		}
	}
	close(calm)
	await(t, "an empty group", func() bool { return d.rest() == 0 })
	close(stop)
	crew.Wait()
	pass(0)
	l.mu.Lock() // answers to what was said last may still come
	defer l.mu.Unlock()
	for r := range repos {
		if got := l.last[fmt.Sprint("r", r)]; got != each {
			t.Errorf("r%d was delivered up to %d of %d", r, got, each)
		}
	}
	for what, n := range l.counts {
		counts[what] += n
	}
}

// storm publishes one packet under a position, until it has a receipt.
func (d *desk) storm(repo string, n int) {
	await(d.t, "a receipt", func() bool {
		return d.publish(position(repo, "storm", 1, uint64(n+1), "x"))[0].refusal == nil
	})
}

// changeLeader loses a partition's leadership, with an entry in flight or not.
func (d *desk) changeLeader(rng *rand.Rand) {
	p := d.relay.Partition(repository.PartitionID(rng.IntN(len(d.relay.Partitions()))))
	if rng.IntN(2) == 0 {
		d.proposer.hold(p.Group(), true)
		pass(time.Duration(rng.IntN(50)) * time.Millisecond)
	}
	d.proposer.resign(p.Group())
	pass(time.Duration(rng.IntN(50)) * time.Millisecond)
	d.proposer.hold(p.Group(), false)
	d.proposer.lead(p.Group())
	d.awaitLeading()
}

// rest is how many packets are not settled, of all groups.
func (d *desk) rest() (n uint64) {
	for _, waiting := range d.relay.Depths() {
		for _, k := range waiting {
			n += k
		}
	}
	return n
}
