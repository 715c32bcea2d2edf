package actors

import (
	"bytes"
	"context"
	"errors"
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

func newState() *storage.State {
	return storage.NewState(memstore.New(), slog.New(slog.DiscardHandler))
}

// order proposes what add adds and waits for it.
func (h *harness) order(p *Partition, add func(*repository.EntryBuilder)) error {
	done := make(chan error, 1)
	p.Command(add, func(_ *repository.Results, err error) { done <- err })
	return waitFor(h.t, done)
}

func waitFor[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("gave up waiting")
		panic("unreachable")
	}
}

// group makes a group known to all partitions.
func (h *harness) group(name string) repository.GroupConfig {
	h.t.Helper()
	cfg := repository.DefaultGroupConfig(name)
	cfg.ID, cfg.Start = 1, repository.StartLatest // nothing to index first
	for _, p := range h.relay.Partitions() {
		if err := h.order(p, func(b *repository.EntryBuilder) { b.AddSetGroup(&cfg) }); err != nil {
			h.t.Fatalf("set group: %v", err)
		}
	}
	return cfg
}

// grant asks for a lease and copies what it got.
func (h *harness) grant(p *Partition, g *repository.Grant) (repository.GrantResult, error) {
	type outcome struct {
		res repository.GrantResult
		err error
	}
	done := make(chan outcome, 1)
	p.Grant(g, func(r *repository.GrantResult, err error) {
		var o outcome
		if o.err = err; r != nil {
			o.res = *r
			o.res.Items = slices.Clone(r.Items)
		}
		done <- o
	})
	o := waitFor(h.t, done)
	return o.res, o.err
}

func (h *harness) settle(p *Partition, s *repository.Settle) (repository.SettleOutcome, error) {
	type outcome struct {
		out repository.SettleOutcome
		err error
	}
	done := make(chan outcome, 1)
	p.Settle(s, func(out repository.SettleOutcome, err error) { done <- outcome{out, err} })
	o := waitFor(h.t, done)
	return o.out, o.err
}

// What is stored and delivered is what was sent, with its content's checksum.
func TestPayloadIsWhatWasSent(t *testing.T) {
	h := newHarness(t, nil)
	h.group("g")
	p := h.partition("r")
	with := packet(wire.PacketFields{
		RepoID: "r", Content: []byte("with"), HasCRC: true, CRC: wire.ContentCRC([]byte("with")),
	})
	without := packet(wire.PacketFields{RepoID: "r", Content: []byte("without"), PacketID: "id"})
	h.publish(with, without)
	res, err := h.grant(p, &repository.Grant{Group: 1, Repo: []byte("r"), Session: []byte("w"), MaxItems: 10, MaxBytes: 1 << 20})
	if err != nil || res.Code != repository.OK || len(res.Items) != 2 {
		t.Fatalf("grant: %+v %v", res, err)
	}
	for i, sent := range [][]byte{with, without} {
		check := func(when string) {
			t.Helper()
			got, err := p.Payload(res.Items[i].Ref, []byte("before"))
			if err != nil || !bytes.HasPrefix(got, append([]byte("before"), sent...)) {
				t.Fatalf("%s, packet %d: %q %v", when, i, got, err)
			}
			var back wire.Packet
			if err := back.Parse(got[len("before"):]); err != nil || !back.HasCRC || back.CRC != wire.ContentCRC(back.Content) {
				t.Errorf("%s, packet %d: checksum %v %08x, error %v", when, i, back.HasCRC, back.CRC, err)
			}
		}
		check("from the log")
		h.proposer.truncate(t, p.Group(), h.proposer.last(p.Group()))
		check("from the spill")
	}
	ref := res.Items[0].Ref
	ref.CRC++
	if _, err := p.Payload(ref, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("another checksum: %v", err)
	}
	ref.Index = 6 // the term's first entry: nothing of it was ever spilled
	if _, err := p.Payload(ref, nil); !errors.Is(err, ErrGone) {
		t.Errorf("neither in the log nor spilled: %v", err)
	}
}

// Settlements, grants and packets share an entry, and what is settled in it can
// be granted in it.
func TestCommandsShareAnEntry(t *testing.T) {
	h := newHarness(t, nil)
	h.group("g")
	p := h.partition("r")
	g := p.Group()
	h.publish(plain("r", "1"), plain("r", "2"))
	ask := &repository.Grant{Group: 1, Repo: []byte("r"), Session: []byte("w"), MaxItems: 1, MaxBytes: 1 << 20}
	first, err := h.grant(p, ask)
	if err != nil || len(first.Items) != 1 {
		t.Fatalf("grant: %+v %v", first, err)
	}
	before := h.proposer.last(g)
	h.proposer.hold(g, true)
	sink := newSink(t)
	h.offer(sink, 0, plain("r", "in front")) // takes the one entry in flight
	await(t, "the entry in front", func() bool { return h.proposer.last(g) == before+1 })
	settled, granted := make(chan repository.SettleOutcome, 1), make(chan repository.Token, 1)
	p.Grant(ask, func(r *repository.GrantResult, err error) {
		if err != nil || r.Code != repository.OK {
			t.Errorf("grant: %+v %v", r, err)
		}
		granted <- r.Token
	})
	p.Settle(&repository.Settle{Group: 1, Repo: []byte("r"), Token: first.Token, Through: first.Items[0].Seq},
		func(o repository.SettleOutcome, err error) {
			if err != nil {
				t.Errorf("settle: %v", err)
			}
			settled <- o
		})
	h.offer(sink, 1, plain("r", "behind"))
	await(t, "the packet behind", func() bool { return p.queued(h.resident("r")) == 1 })
	h.proposer.hold(g, false)
	if o := waitFor(t, settled); o.Code != repository.OK || !o.Ended {
		t.Errorf("settled: %+v", o)
	}
	if token := waitFor(t, granted); uint64(token) != before+2 {
		t.Errorf("granted by entry %d, settled and published by %d", token, before+2)
	}
	if a := sink.await(1); a.refusal != nil || a.seq != 4 {
		t.Errorf("published: %+v", a)
	}
	if h.proposer.last(g) != before+2 {
		t.Errorf("%d entries, want 2", h.proposer.last(g)-before)
	}
}

// Commands of many bytes leave half of an entry to packets, and all get through.
func TestManyCommandsGetThrough(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.EntryBytes = 4 << 10 })
	h.group("g")
	p := h.partition("r")
	g := p.Group()
	h.proposer.hold(g, true)
	var wg sync.WaitGroup
	sink := newSink(t)
	for i := range 200 {
		wg.Add(3)
		repo := []byte(fmt.Sprintf("r%d", i))
		p.Settle(&repository.Settle{Group: 1, Repo: repo, Token: 9, Error: make([]byte, 100)}, func(o repository.SettleOutcome, err error) {
			if o.Code != repository.Stale || err != nil {
				t.Errorf("settle %d: %+v %v", i, o, err)
			}
			wg.Done()
		})
		p.Grant(&repository.Grant{Group: 1, Repo: repo, Session: []byte("w")}, func(r *repository.GrantResult, err error) {
			if err != nil || r.Code != repository.Empty {
				t.Errorf("grant %d: %+v %v", i, r, err)
			}
			wg.Done()
		})
		p.Command(func(b *repository.EntryBuilder) { b.AddExpire(1) }, func(_ *repository.Results, err error) {
			if err != nil {
				t.Errorf("command %d: %v", i, err)
			}
			wg.Done()
		})
		h.offer(sink, uint64(i), plain("r", "x"))
	}
	before := h.proposer.last(g)
	h.proposer.hold(g, false)
	wg.Wait()
	for i := range uint64(200) {
		if a := sink.await(i); a.refusal != nil {
			t.Fatalf("packet %d: %+v", i, a)
		}
	}
	if n := h.proposer.last(g) - before; n < 10 {
		t.Errorf("%d entries: they cannot have kept their limit", n)
	}
}

// listening keeps what a partition tells.
type listening struct {
	mu    sync.Mutex
	terms []string
	lanes []repository.LaneEvent
}

func (l *listening) LeaderStarted(p *Partition, term uint64) { l.note(p, term, "leads") }
func (l *listening) LeaderStopped(p *Partition, term uint64) { l.note(p, term, "stops") }

func (l *listening) note(p *Partition, term uint64, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.ID() == 0 {
		l.terms = append(l.terms, fmt.Sprint(what, " ", term))
	}
}

func (l *listening) Lanes(_ *Partition, events []repository.LaneEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lanes = append(l.lanes, events...)
}

func (l *listening) seen(repo string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lanes, func(e repository.LaneEvent) bool { return e.Repo == repo })
}

func (l *listening) history() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprint(l.terms)
}

// The listener is told of lanes that become runnable, and of each leadership's
// end before the next one's start. Commands are taken in between only.
func TestListenerIsTold(t *testing.T) {
	l := &listening{}
	h := startHarness(t, newState(), nil, func(*harness) PartitionListener { return l })
	h.group("g")
	h.publish(plain("r", "x"))
	await(t, "the lane", func() bool { return l.seen("r") })
	p := h.relay.Partition(0)
	term, ok := p.Leading()
	if !ok {
		t.Fatal("does not lead")
	}
	h.proposer.resign(p.Group())
	await(t, "the end", func() bool { _, ok := p.Leading(); return !ok })
	var refusal *Refusal
	if _, err := h.grant(p, &repository.Grant{Group: 1, Repo: []byte("x")}); !errors.As(err, &refusal) || refusal.Code != CodeUnavailable {
		t.Errorf("granted without leadership: %v", err)
	}
	if err := h.order(p, func(b *repository.EntryBuilder) { b.AddExpire(1) }); !errors.As(err, &refusal) {
		t.Errorf("ordered without leadership: %v", err)
	}
	if _, err := h.settle(p, &repository.Settle{Group: 1, Repo: []byte("x")}); !errors.As(err, &refusal) {
		t.Errorf("settled without leadership: %v", err)
	}
	h.proposer.lead(p.Group())
	h.awaitLeading()
	again, _ := p.Leading()
	want := fmt.Sprintf("[leads %d stops %d leads %d]", term, term, again)
	await(t, want, func() bool { return l.history() == want })
	if err := h.order(p, func(b *repository.EntryBuilder) { b.AddExpire(1) }); err != nil {
		t.Errorf("in the new term: %v", err)
	}
}

// A barrier is answered when the engine confirms it, and refused when it does not.
func TestBarrier(t *testing.T) {
	h := newHarness(t, nil)
	p := h.relay.Partition(0)
	done := make(chan error, 1)
	p.Barrier(func(err error) { done <- err })
	if err := waitFor(t, done); err != nil {
		t.Errorf("barrier: %v", err)
	}
	h.proposer.resign(p.Group())
	p.Barrier(func(err error) { done <- err })
	var refusal *Refusal
	if err := waitFor(t, done); !errors.As(err, &refusal) || !refusal.Retriable() {
		t.Errorf("barrier without leadership: %v", err)
	}
}

// After a restart over the same state and log everything is known again.
func TestRestartKnowsAll(t *testing.T) {
	state := newState()
	h := startHarness(t, state, nil, nil)
	pos, id := position("r", "p", 1, 1, "x"), packet(wire.PacketFields{RepoID: "r", PacketID: "i"})
	first := h.publish(pos, id)
	p := h.partition("r")
	applied, _, err := p.Applied()
	if last := h.proposer.last(p.Group()); err != nil || applied != last {
		t.Fatalf("applied %d of %d: %v", applied, last, err)
	}
	h.proposer.truncate(t, p.Group(), applied)
	for upTo, want := range map[uint64]bool{applied: true, applied + 1: false} {
		if err := state.Flush(); err != nil {
			t.Fatal(err)
		}
		r, done := state.Durable()
		if got, err := p.Durable(r, upTo); got != want || err != nil {
			t.Errorf("durable up to %d: %v %v", upTo, got, err)
		}
		done()
	}
	h.close()
	logs := h.proposer.logs
	h = startHarness(t, state, nil, func(next *harness) PartitionListener {
		next.proposer.logs = logs
		return nil
	})
	for i, a := range h.publish(pos, id) {
		if a.refusal != nil || !a.duplicate || a.seq != first[i].seq {
			t.Errorf("packet %d after the restart: %+v", i, a)
		}
	}
	if a := h.publish(position("r", "p", 1, 2, "y")); a[0].seq != 3 {
		t.Errorf("the next position: %+v", a)
	}
}

// A proposal that is dropped is refused as never proposed, one whose fate nobody
// knows as unknown; both may be sent again, and then each has one number.
func TestDroppedProposal(t *testing.T) {
	h := newHarness(t, nil)
	h.proposer.mu.Lock()
	h.proposer.drop = 1
	h.proposer.mu.Unlock()
	a := h.publish(position("r", "p", 1, 1, "x"), position("r", "p", 1, 2, "y"))
	for i := range a {
		if a[i].code() != CodeUnavailable || !a[i].refusal.Retriable() {
			t.Errorf("dropped packet %d: %+v", i, a[i])
		}
	}
	a = h.publish(position("r", "p", 1, 1, "x"), position("r", "p", 1, 2, "y"))
	if a[0].seq != 1 || a[1].seq != 2 || a[0].duplicate || a[1].duplicate {
		t.Errorf("sent again: %+v", a)
	}
}

// Stop answers what was taken in before, refuses what comes after, and may be
// called twice.
func TestStopDrains(t *testing.T) {
	h := newHarness(t, nil)
	g := h.partition("r").Group()
	h.proposer.hold(g, true)
	sink := newSink(t)
	h.offer(sink, 0, plain("r", "1"))
	await(t, "the proposal", func() bool { return h.proposer.waiting(g) == 1 })
	h.offer(sink, 1, plain("r", "2"))
	await(t, "the packet behind", func() bool { return h.partition("r").queued(h.resident("r")) == 1 })
	stopped := make(chan error, 2)
	for range 2 {
		go func() { stopped <- h.relay.Stop(context.Background()) }()
	}
	await(t, "draining", func() bool { return h.relay.draining.Load() })
	h.offer(sink, 2, plain("r", "3"))
	if a := sink.await(2); a.code() != CodeUnavailable {
		t.Errorf("while stopping: %+v", a)
	}
	h.proposer.hold(g, false)
	for i := range uint64(2) {
		if a := sink.await(i); a.refusal != nil {
			t.Errorf("taken in before: %+v", a)
		}
	}
	for range 2 {
		if err := waitFor(t, stopped); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	if err := h.order(h.partition("r"), func(*repository.EntryBuilder) {}); err == nil {
		t.Error("a command was taken after the stop")
	}
}

// A stop that runs out of time answers who still waits, with the truth.
func TestStopOutOfTime(t *testing.T) {
	h := newHarness(t, nil)
	g := h.partition("r").Group()
	h.proposer.hold(g, true)
	sink := newSink(t)
	h.offer(sink, 0, plain("r", "1"))
	await(t, "the proposal", func() bool { return h.proposer.waiting(g) == 1 })
	h.offer(sink, 1, plain("r", "2"))
	await(t, "the packet behind", func() bool { return h.partition("r").queued(h.resident("r")) == 1 })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.relay.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("stop: %v", err)
	}
	if a := sink.await(0); a.code() != CodeUnknown {
		t.Errorf("in flight: %+v", a)
	}
	if a := sink.await(1); a.code() != CodeUnavailable {
		t.Errorf("queued: %+v", a)
	}
}

// An actor that comes back after a panic does not know what is in flight: it must
// not refuse the second packet of a producer whose first one is on its way.
func TestRestartedActorIsNotSureOfProducers(t *testing.T) {
	h := newHarness(t, nil)
	h.relay.onPacket = func(_ string, p any) {
		if string(p.(*wire.Packet).Content) == "poison" {
			panic("poisoned")
		}
	}
	g := h.partition("r").Group()
	h.proposer.hold(g, true)
	sink := newSink(t)
	h.offer(sink, 0, position("r", "p", 1, 1, "x"))
	await(t, "the proposal", func() bool { return h.proposer.waiting(g) == 1 })
	h.offer(sink, 1, plain("r", "poison"))
	sink.await(1)
	h.offer(sink, 2, position("r", "p", 1, 2, "y"))
	await(t, "the second packet", func() bool { return h.partition("r").queued(h.resident("r")) == 1 })
	h.proposer.hold(g, false)
	if a := sink.await(0); a.refusal != nil || a.seq != 1 {
		t.Errorf("the first: %+v", a)
	}
	if a := sink.await(2); a.refusal != nil || a.seq != 2 {
		t.Errorf("the second: %+v", a)
	}
}

// Resends that wait in an actor's filter are answered when it dies; the packet
// that they wait for is answered by its entry.
func TestAttachedAreAnsweredAtAPanic(t *testing.T) {
	h := newHarness(t, nil)
	h.relay.onPacket = func(_ string, p any) {
		if string(p.(*wire.Packet).Content) == "poison" {
			panic("poisoned")
		}
	}
	g := h.partition("r").Group()
	h.proposer.hold(g, true)
	sink := newSink(t)
	id := packet(wire.PacketFields{RepoID: "r", PacketID: "i"})
	h.offer(sink, 0, id, id)
	await(t, "the resend", func() bool { return h.resident("r").attached.Load() == 1 })
	h.offer(sink, 2, plain("r", "poison"))
	if a := sink.await(1); a.code() != CodeUnavailable || !a.refusal.Retriable() {
		t.Errorf("the resend: %+v", a)
	}
	h.proposer.hold(g, false)
	if a := sink.await(0); a.refusal != nil {
		t.Errorf("the first: %+v", a)
	}
}

// What a packet may be is checked before anything else; a bad one does not spoil
// its frame.
func TestInvalidPackets(t *testing.T) {
	h := newHarness(t, nil)
	got := h.publish(
		packet(wire.PacketFields{Content: []byte("x")}),
		packet(wire.PacketFields{RepoID: "r", Content: []byte("x"), HasCRC: true, CRC: 1}),
		[]byte{0xff},
		plain("r", "good"),
		position("r", "p", 0, 1, "x"),
	)
	for i, field := range []string{"repo_id", "content_crc32c", "packet", "", "position.epoch"} {
		switch a := got[i]; {
		case field == "" && a.refusal != nil:
			t.Errorf("the good packet: %+v", a.refusal)
		case field != "" && (a.code() != CodeInvalidArgument || a.refusal.Field != field || a.refusal.Retriable()):
			t.Errorf("packet %d: %+v, want a fault in %s", i, a.refusal, field)
		}
	}
}
