package actors

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

// lot is what a test knows of one packet.
type lot struct {
	rank      repository.Rank
	delivered bool
	done      bool // a settlement as done was acknowledged
	maybe     bool // one is on its way, or its outcome is unknown
	dead      bool // likewise, of what may make it a dead letter
}

// over says whether the packet may be settled, as far as the test can know.
func (l *lot) over() bool { return l.done || l.maybe || l.dead }

// crowd drives workers, senders and faults at random and holds what comes against
// the promises: order, one token at a time, nothing after its settlement, nothing lost.
type crowd struct {
	*desk
	rng     *rand.Rand
	repos   []string
	sent    map[string]uint64 // positions with a receipt
	lots    map[string][]*lot // by repository, in the order of numbers
	token   map[string]repository.Token
	within  map[string]repository.Seq // the last number handed out under the token
	workers []*hand
}

// hand is a worker with what it has not settled.
type hand struct {
	*worker
	name string
	has  []Delivery
}

func TestPromisesToWorkers(t *testing.T) {
	seeds := 12
	if testing.Short() {
		seeds = 4
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { newCrowd(t, seed).run(700) })
		})
	}
}

func newCrowd(t *testing.T, seed uint64) *crowd {
	c := &crowd{
		rng: rand.New(rand.NewPCG(seed, 1)), sent: map[string]uint64{}, lots: map[string][]*lot{},
		token: map[string]repository.Token{}, within: map[string]repository.Seq{},
	}
	c.desk = newDesk(t, func(s *deskSettings) { s.delivery.WindowLanes = 4; s.delivery.MaintainItems = 3 })
	c.group("g", func(g *repository.GroupConfig) { g.MaxAttempts, g.MaxBatch, g.BackoffMaxMs = 4, 5, 4000 })
	for i := range 9 {
		c.repos = append(c.repos, fmt.Sprint("r", i))
	}
	for i := range 4 {
		name := ""
		if i > 0 {
			name = fmt.Sprint("w", i)
		}
		c.workers = append(c.workers, &hand{name: name})
		c.reopen(c.workers[i])
	}
	return c
}

func (c *crowd) reopen(w *hand) {
	if w.worker != nil {
		w.Close()
	}
	w.worker = c.open(SessionConfig{Worker: w.name, Credit: uint32(1 + c.rng.IntN(12)), LeaseMs: 5000})
}

func (c *crowd) run(steps int) {
	for range steps {
		pass(0)
		c.step()
	}
	for _, p := range c.relay.Partitions() {
		if _, ok := p.Leading(); !ok {
			c.proposer.lead(p.Group())
		}
	}
	c.finish()
}

func (c *crowd) step() {
	w := c.workers[c.rng.IntN(len(c.workers))]
	switch n := c.rng.IntN(100); {
	case n < 20:
		c.publishSome()
	case n < 50:
		c.takeSome(w)
	case n < 80:
		c.settleSome(w, false)
	case n < 84:
		pass(time.Duration(c.rng.IntN(3000)) * time.Millisecond)
	case n < 88:
		c.reopen(w)
	case n < 91 && len(w.has) > 0:
		w.renew(refOf(&w.has[c.rng.IntN(len(w.has))]))
	case n < 93:
		w.SetCredit(uint32(1 + c.rng.IntN(12)))
	case n < 96:
		c.changeLeader()
	case n < 98:
		p := c.relay.Partitions()[c.rng.IntN(2)]
		c.proposer.truncate(c.t, p.Group(), c.proposer.applied(p))
	default:
		c.proposer.dropNext(c.rng.IntN(3))
	}
}

// applied is how far a group's log may be truncated.
func (f *fakeProposer) applied(p *Partition) uint64 {
	index, _, _ := p.Applied()
	return max(index, 5)
}

// dropNext has the next n proposals dropped.
func (f *fakeProposer) dropNext(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop = n
}

// changeLeader takes a leadership away, with an entry in the log perhaps, or gives
// it back.
func (c *crowd) changeLeader() {
	p := c.relay.Partitions()[c.rng.IntN(2)]
	if _, ok := p.Leading(); !ok {
		c.proposer.lead(p.Group())
		return
	}
	if c.rng.IntN(2) == 0 {
		c.proposer.hold(p.Group(), true)
		for _, w := range c.workers {
			c.settleSome(w, false)
		}
		pass(0)
	}
	c.proposer.resign(p.Group())
	pass(time.Duration(c.rng.IntN(100)) * time.Millisecond)
	c.proposer.hold(p.Group(), false)
	if c.rng.IntN(3) > 0 {
		c.proposer.lead(p.Group())
	}
}

func (c *crowd) publishSome() {
	repo := c.repos[c.rng.IntN(len(c.repos))]
	for range 1 + c.rng.IntN(6) {
		rank := repository.Rank(c.rng.IntN(repository.Ranks))
		f := wire.PacketFields{RepoID: repo, Producer: "p", Epoch: 1, Sequence: c.sent[repo] + 1, Priority: rank.Priority()}
		a := c.publish(packet(f))[0]
		if a.refusal != nil {
			return
		}
		if !a.duplicate && a.seq != repository.Seq(len(c.lots[repo])+1) {
			c.t.Fatalf("%s: position %d got the number %d, want %d", repo, f.Sequence, a.seq, len(c.lots[repo])+1)
		}
		c.sent[repo]++
		c.lots[repo] = append(c.lots[repo], &lot{rank: rank})
	}
}

func (c *crowd) takeSome(w *hand) {
	list := w.Take(1+c.rng.IntN(8), nil)
	for i := range list {
		c.judge(&list[i])
	}
	w.has = append(w.has, list...)
}

// judge holds one delivery against the promises.
func (c *crowd) judge(x *Delivery) {
	lots := c.lots[x.Repo]
	if int(x.Seq) > len(lots) {
		c.t.Fatalf("%s %d was never sent", x.Repo, x.Seq)
	}
	l := lots[x.Seq-1]
	switch before := c.token[x.Repo]; {
	case l.done:
		c.t.Fatalf("%s %d is delivered after its settlement", x.Repo, x.Seq)
	case x.Token < before:
		c.t.Fatalf("%s %d is delivered under %d, after %d", x.Repo, x.Seq, x.Token, before)
	case x.Token > before:
		c.token[x.Repo], c.within[x.Repo] = x.Token, 0
	case x.Seq <= c.within[x.Repo] && !x.Redelivered:
		c.t.Fatalf("%s %d comes after %d under one token", x.Repo, x.Seq, c.within[x.Repo])
	}
	c.within[x.Repo] = x.Seq
	if l.delivered {
		return
	}
	l.delivered = true
	for seq, earlier := range lots[:x.Seq-1] {
		if earlier.rank == l.rank && !earlier.delivered && !earlier.over() {
			c.t.Fatalf("%s %d is delivered before %d", x.Repo, x.Seq, seq+1)
		}
	}
}

// settleSome settles a part of what a worker has, out of order; everything as done
// when it is to be finished.
func (c *crowd) settleSome(w *hand, all bool) {
	var list []Settlement
	var kept []Delivery
	for i := range w.has {
		x := &w.has[i]
		switch n := c.rng.IntN(20); {
		case all || n < 12:
			list = append(list, done(x))
		case n < 14:
			list = append(list, retry(x, "no"))
		case n < 15:
			list = append(list, dead(x, "no"))
		default:
			kept = append(kept, *x)
		}
	}
	if !all && c.rng.IntN(8) > 0 {
		c.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	for i := range list {
		l := c.lots[list[i].Repo][list[i].Seq-1]
		l.maybe = l.maybe || list[i].Outcome == OutcomeDone
		l.dead = l.dead || list[i].Outcome != OutcomeDone
	}
	w.has = kept
	if len(list) == 0 {
		return
	}
	w.Settle(list, func(part []SettlementOutcome) {
		for _, x := range part {
			if list[x.Index].Outcome == OutcomeDone && x.Refusal == nil {
				c.lots[x.Repo][x.Seq-1].done = true
			}
		}
	})
	pass(0)
}

// finish works everything off without faults, and looks for what was lost.
func (c *crowd) finish() {
	c.proposer.dropNext(0)
	for idle := 0; idle < 30; idle++ {
		pass(time.Second)
		for _, w := range c.workers {
			w.SetCredit(20)
			c.takeSome(w)
			if len(w.has) > 0 {
				idle = 0
			}
			c.settleSome(w, true)
		}
	}
	for _, repo := range c.repos {
		for i, l := range c.lots[repo] {
			if l.done {
				continue
			}
			info := c.lookup(repo, repository.Seq(i+1))
			if s := info.Groups[0].State; s != "dead" && (s != "done" || !l.maybe) {
				c.t.Errorf("%s %d is %s at the end: %+v", repo, i+1, s, *l)
			}
		}
	}
	pass(time.Second)
	c.leaks()
}

// leaks looks for what nobody needs any more, and is kept.
func (c *crowd) leaks() {
	for _, k := range c.service.keepers {
		k.mu.Lock()
		if len(k.leases) > 0 || k.due.Len() > 0 {
			c.t.Errorf("%d leases and %d deadlines are left", len(k.leases), k.due.Len())
		}
		k.mu.Unlock()
	}
	g := c.service.all()[0]
	g.mu.Lock()
	names := make([]string, 0, len(g.sessions))
	for name := range g.sessions {
		names = append(names, name)
	}
	g.mu.Unlock()
	slices.Sort(names)
	if len(names) != len(c.workers) {
		c.t.Errorf("sessions at the end: %v", names)
	}
	for _, w := range c.workers {
		if n := w.Held(); n != 0 {
			s := w.s
			c.t.Errorf("%s holds %d packets at the end; %d grants under way reserve %d; queue of %d, leases %v, running %v, poked %v",
				w.Name(), n, s.inflight, s.reserved, len(s.queue), s.leases != nil, s.running, s.poked)
		}
	}
}
