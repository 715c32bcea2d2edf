package meta

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fixture struct {
	t      *testing.T
	log    *storage.Log
	state  *storage.State
	engine *cluster.Engine
	store  *Store
	calls  *Calls
	ctx    context.Context
}

func open(t *testing.T, fs vfs.FS) *fixture {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	lc, sc := storage.DefaultLogConfig("log"), storage.DefaultStateConfig("state")
	lc.FS, lc.Logger, lc.SegmentBytes = fs, quiet, 1<<20
	sc.FS, sc.Logger, sc.MemTableBytes = fs, quiet, 1<<20
	f := &fixture{t: t}
	var err error
	if f.log, err = storage.OpenLog(lc); err != nil {
		t.Fatal(err)
	}
	if f.state, err = storage.OpenState(sc); err != nil {
		t.Fatal(err)
	}
	if f.store, err = Open(f.state); err != nil {
		t.Fatal(err)
	}
	cfg := cluster.DefaultConfig()
	cfg.Log, cfg.State, cfg.Logger, cfg.Registerer = f.log, f.state, quiet, prometheus.NewRegistry()
	cfg.Clock = func() int64 { return time.Now().UnixMilli() }
	cfg.Fatal = func(err error) { t.Error(err) }
	if f.engine, err = cluster.Open(cfg); err != nil {
		t.Fatal(err)
	}
	if err := f.engine.AddGroup(MetaGroup, FirstReplica, f.store); err != nil {
		t.Fatal(err)
	}
	f.engine.Start()
	f.calls = NewCalls(f.store, f.engine, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	f.ctx = ctx
	t.Cleanup(cancel)
	t.Cleanup(f.close)
	return f
}

func (f *fixture) close() {
	if f.log == nil {
		return
	}
	if err := f.engine.Stop(context.Background()); err != nil {
		f.t.Error(err)
	}
	_, _ = f.log.Close(), f.state.Close()
	f.log = nil
}

func TestStoreSurvivesACrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	f := open(t, fs)
	if _, err := f.calls.OpenProducer(f.ctx, "ci"); !errors.Is(err, ErrNotMade) {
		t.Fatalf("before init: %v", err)
	}
	v, err := f.calls.Init(f.ctx, *initCommand())
	if err != nil || v.Cluster.Partitions != 4 {
		t.Fatalf("%+v %v", v, err)
	}
	for want := uint64(1); want <= 5; want++ {
		if got, err := f.calls.OpenProducer(f.ctx, "ci"); err != nil || got != want {
			t.Fatalf("epoch %d: %v", got, err)
		}
	}
	g, err := f.calls.EnsureGroup(f.ctx, "default", []byte("settings"))
	if err != nil || g.ID != 1 {
		t.Fatalf("%+v %v", g, err)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	f.close()

	f = open(t, crashed)
	if err := f.calls.StartNode(f.ctx, node(1, 2, 22)); err != nil {
		t.Fatal(err)
	}
	if err := f.calls.StartNode(f.ctx, node(1, 2, 33)); !errors.Is(err, ErrCopy) {
		t.Fatalf("copy: %v", err)
	}
	if got, err := f.calls.OpenProducer(f.ctx, "ci"); err != nil || got != 6 {
		t.Fatalf("epoch %d after a crash: %v", got, err)
	}
	if g, ok := f.store.View().Group("default"); !ok || string(g.Settings) != "settings" {
		t.Fatalf("group %+v", g)
	}
	if id, ok := f.store.View().ReplicaOn(2, identity.NodeID{1}); !ok || id != 3 {
		t.Fatalf("replica %d", id)
	}
}

func TestCallsFromManySides(t *testing.T) {
	f := open(t, vfs.NewMem())
	var views int
	var mu sync.Mutex
	f.store.Watch(func(*View) { mu.Lock(); views++; mu.Unlock() })
	if _, err := f.calls.Init(f.ctx, *initCommand()); err != nil {
		t.Fatal(err)
	}
	epochs := make([]uint64, 32)
	var wg sync.WaitGroup
	for i := range epochs {
		wg.Go(func() {
			var err error
			if epochs[i], err = f.calls.OpenProducer(f.ctx, "same"); err != nil {
				t.Error(err)
			}
			if g, err := f.calls.EnsureGroup(f.ctx, "same", nil); err != nil || g.ID != 1 {
				t.Errorf("%+v %v", g, err)
			}
		})
	}
	wg.Wait()
	seen := map[uint64]bool{}
	for _, e := range epochs {
		if e < 1 || e > 32 || seen[e] {
			t.Fatalf("epochs %v", epochs)
		}
		seen[e] = true
	}
	mu.Lock()
	defer mu.Unlock()
	if views < 3 {
		t.Fatalf("%d views", views)
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	store, err := Open(storage.NewState(openKV(t), slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := NewCalls(store, nil, nil).OpenProducer(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// A damaged record is named and never skipped.
func TestDamagedRecord(t *testing.T) {
	for name, table := range map[string]byte{"applied": tableApplied, "cluster": tableCluster, "group": tableGroup} {
		state := storage.NewState(openKV(t), slog.New(slog.DiscardHandler))
		b := state.NewBatch()
		r := clusterRecord(Cluster{ID: ClusterID{1}})
		b.Set(r.Key, r.Value)
		b.Set(key(table), []byte{version1, 0xff})
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(state); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func openKV(t *testing.T) storage.KV {
	t.Helper()
	kv := memstore.New()
	t.Cleanup(func() { _ = kv.Close() })
	return kv
}
