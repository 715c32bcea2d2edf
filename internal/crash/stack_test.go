package crash

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const partitions = 2

// stack is a node without its API: everything that decides and stores.
type stack struct {
	t      testing.TB
	log    *storage.Log
	state  *storage.State
	engine *cluster.Engine
	relay  *actors.Relay
}

// open starts a stack on fs, with limits so small that memtables are flushed and
// logs are truncated all the time.
func open(t testing.TB, fs vfs.FS, clock *atomic.Int64) *stack {
	t.Helper()
	s := &stack{t: t}
	fatal := func(err error) { t.Errorf("fatal: %v", err) }
	logger, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	lc := storage.DefaultLogConfig("log")
	lc.FS, lc.Logger, lc.Fatal, lc.SegmentBytes = fs, logger, fatal, 128<<10
	var err error
	if s.log, err = storage.OpenLog(lc); err != nil {
		t.Fatalf("open log: %v", err)
	}
	sc := storage.DefaultStateConfig("state")
	sc.FS, sc.Logger, sc.Fatal, sc.MemTableBytes, sc.CacheBytes = fs, logger, fatal, 128<<10, 1<<20
	if s.state, err = storage.OpenState(sc); err != nil {
		t.Fatalf("open state: %v", err)
	}
	c := cluster.DefaultConfig()
	c.Log, c.State, c.Clock, c.Logger, c.Registerer, c.Fatal = s.log, s.state, clock.Load, logger, reg, fatal
	c.GroupLogBytes, c.TotalLogBytes, c.SettledLogBytes, c.SpillBytes, c.CacheBytes = 64<<10, 128<<10, 16<<10, 8<<10, 32<<10
	if s.engine, err = cluster.Open(c); err != nil {
		t.Fatal(err)
	}
	r := actors.DefaultConfig()
	r.Partitions = partitions
	r.NotProposed = func(err error) bool {
		return errors.Is(err, cluster.ErrNotLeader) || errors.Is(err, cluster.ErrDropped) || errors.Is(err, cluster.ErrStopped)
	}
	if s.relay, err = actors.NewRelay(r, s.engine, s.state, logger, prometheus.NewRegistry()); err != nil {
		t.Fatalf("open relay: %v", err)
	}
	for i, p := range s.relay.Partitions() {
		if err := s.engine.AddGroup(p.Group(), storage.ReplicaID(i+1), p); err != nil {
			t.Fatalf("add group: %v", err)
		}
	}
	s.engine.Start()
	deadline := time.Now().Add(time.Minute)
	for _, p := range s.relay.Partitions() {
		for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
			if _, ok := p.Leading(); ok {
				tick.Stop()
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("no leader")
			}
		}
	}
	return s
}

func (s *stack) close() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := errors.Join(s.relay.Stop(ctx), s.engine.Stop(ctx), s.state.Close(), s.log.Close()); err != nil {
		s.t.Errorf("close: %v", err)
	}
}

func (s *stack) partition(repo string) *actors.Partition {
	return s.relay.Partition(s.relay.PartitionOf([]byte(repo)))
}

// command proposes settings and waits for them.
func (s *stack) command(p *actors.Partition, add func(*repository.EntryBuilder)) {
	s.t.Helper()
	done := make(chan error, 1)
	p.Command(add, func(_ *repository.Results, err error) { done <- err })
	if err := <-done; err != nil {
		s.t.Fatalf("command: %v", err)
	}
}
