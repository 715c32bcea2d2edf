package actors

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/memstore"
)

// testGroups are groups that a test has given settings, or defaults.
type testGroups struct {
	h      *harness
	mu     sync.Mutex
	byName map[string]repository.GroupConfig
}

// EnsureGroup brings the group into all partitions.
func (g *testGroups) EnsureGroup(_ context.Context, name string) (repository.GroupConfig, error) {
	if c, ok := g.Group(name); ok {
		return c, nil
	}
	return g.set(repository.DefaultGroupConfig(name)), nil
}

// Group is a group that is there.
func (g *testGroups) Group(name string) (repository.GroupConfig, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c, ok := g.byName[name]
	return c, ok
}

// Exists is always true: nobody deletes groups here.
func (g *testGroups) Exists(string) bool { return true }

func (g *testGroups) set(c repository.GroupConfig) repository.GroupConfig {
	g.mu.Lock()
	if old, ok := g.byName[c.Name]; ok {
		c.ID, c.Version = old.ID, old.Version+1
	} else {
		c.ID = repository.GroupID(len(g.byName) + 1)
	}
	g.byName[c.Name] = c
	g.mu.Unlock()
	for _, p := range g.h.relay.Partitions() {
		g.h.command(p, func(e *repository.EntryBuilder) { e.AddSetGroup(&c) })
	}
	return c
}

// desk is a harness with a delivery service over it.
type desk struct {
	*harness
	service *DeliveryService
	groups  *testGroups
	taps    []*tap
}

// deskSettings are what a test may change of a desk.
type deskSettings struct {
	relay    Config
	delivery DeliveryConfig
}

func newDesk(t testing.TB, change func(*deskSettings)) *desk {
	t.Helper()
	return deskOver(t, storage.NewState(memstore.New(), slog.New(slog.DiscardHandler)), change)
}

// deskOver is newDesk over a given state.
func deskOver(t testing.TB, state *storage.State, change func(*deskSettings)) *desk {
	t.Helper()
	set := deskSettings{testConfig(), DefaultDeliveryConfig()}
	if change != nil {
		change(&set)
	}
	d := &desk{}
	d.harness = startHarness(t, state, func(c *Config) { *c = set.relay }, func(h *harness) PartitionListener {
		var list []LanePartition
		for _, p := range h.relay.Partitions() {
			d.taps = append(d.taps, &tap{Partition: p})
			list = append(list, d.taps[p.ID()])
		}
		d.groups = &testGroups{h: h, byName: map[string]repository.GroupConfig{}}
		logger := slog.New(slog.NewTextHandler(h.log, nil))
		service, err := NewDelivery(set.delivery, list, h.relay.PartitionOf, d.groups, logger, h.registry)
		if err != nil {
			t.Fatalf("new delivery: %v", err)
		}
		d.service = service
		return service
	})
	t.Cleanup(d.stop)
	return d
}

func (d *desk) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := d.service.Stop(ctx); err != nil {
		d.t.Errorf("stop delivery: %v", err)
	}
}

// tap is the partition of a repository, as the service sees it.
func (d *desk) tap(repo string) *tap { return d.taps[d.partition(repo).ID()] }

// group makes a group, or changes one.
func (d *desk) group(name string, change func(c *repository.GroupConfig)) {
	d.t.Helper()
	c := repository.DefaultGroupConfig(name)
	if change != nil {
		change(&c)
	}
	d.groups.set(c)
}

// send publishes n packets of a repository, whose contents are their numbers.
func (d *desk) send(repo string, n int) {
	d.t.Helper()
	var raws [][]byte
	for i := range n {
		raws = append(raws, packet(wire.PacketFields{RepoID: repo, Content: fmt.Append(nil, i)}))
	}
	for i, a := range d.publish(raws...) {
		if a.refusal != nil {
			d.t.Fatalf("publish %s %d: %v", repo, i, a.refusal)
		}
	}
}

// worker is a session with what was handed out to it.
type worker struct {
	d *desk
	*Session
}

// open opens a session of group, or of "g" when cfg names none.
func (d *desk) open(cfg SessionConfig) *worker {
	d.t.Helper()
	if cfg.Group == "" {
		cfg.Group = "g"
	}
	s, err := d.service.Open(context.Background(), cfg)
	if err != nil {
		d.t.Fatalf("open session: %v", err)
	}
	return &worker{d, s}
}

// take waits for n deliveries.
func (w *worker) take(n int) []Delivery {
	w.d.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	out := w.Take(n, nil)
	for len(out) < n {
		select {
		case <-w.Ready():
			out = w.Take(n-len(out), out)
		case <-timer.C:
			w.d.t.Fatalf("gave up waiting for delivery %d of %d; got %s", len(out)+1, n, seqs(out))
		}
	}
	return out
}

// seqs is the numbers of deliveries, for comparison.
func seqs(list []Delivery) string {
	var out []repository.Seq
	for i := range list {
		out = append(out, list[i].Seq)
	}
	return fmt.Sprint(out)
}

// want fails the test unless the deliveries have these numbers.
func (w *worker) want(n int, numbers string) []Delivery {
	w.d.t.Helper()
	got := w.take(n)
	if seqs(got) != numbers {
		w.d.t.Fatalf("delivered %s, want %s", seqs(got), numbers)
	}
	return got
}

// nothing fails the test if there is something to take. Only in a bubble.
func (w *worker) nothing() {
	w.d.t.Helper()
	pass(0)
	if got := w.Take(100, nil); len(got) > 0 {
		w.d.t.Fatalf("delivered %s, want nothing", seqs(got))
	}
}

func done(x *Delivery) Settlement {
	return Settlement{Repo: x.Repo, Seq: x.Seq, Token: x.Token, Outcome: OutcomeDone}
}

func retry(x *Delivery, why string) Settlement {
	return Settlement{Repo: x.Repo, Seq: x.Seq, Token: x.Token, Outcome: OutcomeRetry, Error: why}
}

func dead(x *Delivery, why string) Settlement {
	return Settlement{Repo: x.Repo, Seq: x.Seq, Token: x.Token, Outcome: OutcomeDead, Error: why}
}

// dones settles all of list as done.
func dones(list []Delivery) (out []Settlement) {
	for i := range list {
		out = append(out, done(&list[i]))
	}
	return out
}

// verdicts collects the answers to one call of Settle.
type verdicts struct {
	t   testing.TB
	mu  sync.Mutex
	got map[int]SettlementOutcome
}

// settle begins to settle.
func (w *worker) settle(list ...Settlement) *verdicts {
	v := &verdicts{t: w.d.t, got: map[int]SettlementOutcome{}}
	w.Settle(list, func(part []SettlementOutcome) {
		v.mu.Lock()
		defer v.mu.Unlock()
		for _, x := range part {
			if _, twice := v.got[x.Index]; twice {
				v.t.Errorf("settlement %d answered twice", x.Index)
			}
			if x.Repo != list[x.Index].Repo || x.Seq != list[x.Index].Seq {
				v.t.Errorf("settlement %d answered as %s %d", x.Index, x.Repo, x.Seq)
			}
			v.got[x.Index] = x
		}
	})
	return v
}

func (v *verdicts) code(i int) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	x, ok := v.got[i]
	switch {
	case !ok:
		return "open"
	case x.Refusal != nil:
		return x.Refusal.Code
	}
	return "OK"
}

// want waits until the answers are these codes. One that shall stay "open" is
// looked at once the others are there.
func (v *verdicts) want(codes ...string) {
	v.t.Helper()
	open := 0
	for _, c := range codes {
		if c == "open" {
			open++
		}
	}
	await(v.t, "answers to settlements", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return len(v.got) >= len(codes)-open
	})
	var got []string
	for i := range codes {
		got = append(got, v.code(i))
	}
	if !slices.Equal(got, codes) {
		v.t.Fatalf("settled as %v, want %v", got, codes)
	}
}

// allDone settles list as done and waits for it.
func (w *worker) allDone(list []Delivery) {
	w.d.t.Helper()
	v := w.settle(dones(list)...)
	for i := range list {
		await(w.d.t, "a settlement", func() bool { return v.code(i) != "open" })
		if c := v.code(i); c != "OK" {
			w.d.t.Fatalf("settled %s %d as %s", list[i].Repo, list[i].Seq, c)
		}
	}
}
