package actors

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/internal/written"
	"github.com/waystation/waystation/messages/wire"
	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/memstore"
)

// harness is a relay over fakeProposer and a state in memory, leading all its
// partitions.
type harness struct {
	t        testing.TB
	relay    *Relay
	proposer *fakeProposer
	state    *storage.State
	registry *prometheus.Registry
	log      *written.Text
}

// testConfig has few partitions and fast failures.
func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Partitions = 2
	cfg.RestartMin, cfg.RestartMax = time.Millisecond, 4*time.Millisecond
	cfg.NotProposed = func(err error) bool { return errors.Is(err, errFakeDropped) }
	return cfg
}

// newHarness starts a relay whose change, if any, was made to testConfig.
func newHarness(t testing.TB, change func(*Config)) *harness {
	t.Helper()
	h := startHarness(t, storage.NewState(memstore.New(), slog.New(slog.DiscardHandler)), change, nil)
	return h
}

// startHarness is newHarness over a given state. listen, if any, makes who hears of
// the partitions before they lead.
func startHarness(t testing.TB, state *storage.State, change func(*Config), listen func(h *harness) PartitionListener) *harness {
	t.Helper()
	cfg := testConfig()
	if change != nil {
		change(&cfg)
	}
	h := &harness{
		t: t, proposer: newFakeProposer(), state: state,
		registry: prometheus.NewRegistry(), log: &written.Text{},
	}
	relay, err := NewRelay(cfg, h.proposer, h.state, slog.New(slog.NewTextHandler(h.log, nil)), h.registry)
	if err != nil {
		t.Fatalf("new relay: %v", err)
	}
	h.relay = relay
	if listen != nil {
		relay.Listen(listen(h))
	}
	for _, p := range relay.Partitions() {
		h.proposer.machines[p.Group()] = p
	}
	for _, p := range relay.Partitions() { // from here on the proposer runs
		h.proposer.lead(p.Group())
	}
	h.awaitLeading()
	t.Cleanup(h.close)
	return h
}

func (h *harness) awaitLeading() {
	h.t.Helper()
	for _, p := range h.relay.Partitions() {
		await(h.t, "leadership", func() bool { _, ok := p.Leading(); return ok })
	}
}

func (h *harness) close() {
	for _, p := range h.relay.Partitions() {
		h.proposer.hold(p.Group(), false)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.relay.Stop(ctx); err != nil {
		h.t.Errorf("stop relay: %v", err)
	}
	h.proposer.stop()
	if n := h.relay.intake.used(); n != 0 {
		h.t.Errorf("intake holds %d bytes after everything was answered", n)
	}
	if n := h.relay.active.Load(); n != 0 {
		h.t.Errorf("%d actors are left", n)
	}
}

// bubble runs f where time passes only when nothing else happens.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// pass lets d pass, and all that it brings. Only in a bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// configure changes the settings that Apply goes by, in all partitions.
func (h *harness) configure(change func(c *repository.Config)) {
	h.t.Helper()
	for _, p := range h.relay.Partitions() {
		c := repository.DefaultConfig()
		_ = p.View(func(m *repository.Machine) error {
			c.Version = m.Config().Version + 1
			return nil
		})
		change(&c)
		h.command(p, func(e *repository.EntryBuilder) { e.AddConfigure(&c) })
	}
}

// command proposes commands to a partition and waits until they are applied.
func (h *harness) command(p *Partition, add func(*repository.EntryBuilder)) {
	h.t.Helper()
	done := make(chan error, 1)
	p.Command(add, func(_ *repository.Results, err error) { done <- err })
	select {
	case err := <-done:
		if err != nil {
			h.t.Fatalf("command: %v", err)
		}
	case <-time.After(patience):
		h.t.Fatal("gave up waiting for a command")
	}
}

// partition is the partition of a repository.
func (h *harness) partition(repo string) *Partition {
	return h.relay.Partition(h.relay.PartitionOf([]byte(repo)))
}

// packet is one packet as its protobuf bytes.
func packet(f wire.PacketFields) []byte { return wire.AppendPacket(nil, &f) }

// position is a packet under a producer position.
func position(repo, producer string, epoch, seq uint64, content string) []byte {
	return packet(wire.PacketFields{
		RepoID: repo, Content: []byte(content), Producer: producer, Epoch: epoch, Sequence: seq,
	})
}

// offer offers packets as one frame and returns what was released and answered.
func (h *harness) offer(sink Sink, first uint64, raws ...[]byte) (released func() bool) {
	h.t.Helper()
	var mu sync.Mutex
	n := 0
	f := &Frame{First: first, Release: func() {
		mu.Lock()
		defer mu.Unlock()
		n++
	}}
	for _, raw := range raws {
		var p wire.Packet
		_ = p.Parse(raw) // Validate says it again
		f.Packets = append(f.Packets, p)
		f.Bytes += len(raw)
	}
	h.relay.Offer(f, sink)
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		if n > 1 {
			h.t.Errorf("frame released %d times", n)
		}
		return n == 1
	}
}

// publish offers packets and waits for all their answers, in the order given.
func (h *harness) publish(raws ...[]byte) []answered {
	h.t.Helper()
	sink := newSink(h.t)
	released := h.offer(sink, 0, raws...)
	out := make([]answered, len(raws))
	for i := range raws {
		out[i] = sink.await(uint64(i))
	}
	await(h.t, "release of the frame", released)
	return out
}

// resident is the repository's resident, which must be there.
func (h *harness) resident(repo string) *resident {
	h.t.Helper()
	var found *resident
	await(h.t, "actor of "+repo, func() bool {
		h.partition(repo).actors.each(func(r *resident) {
			if string(r.repo) == repo {
				found = r
			}
		})
		return found != nil
	})
	return found
}
