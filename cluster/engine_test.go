package cluster_test

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
	"github.com/waystation/waystation/messages/envelope"
	"github.com/waystation/waystation/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// node is an engine over two Pebbles on one file system.
type node struct {
	t      testing.TB
	fs     vfs.FS
	log    *storage.Log
	state  *storage.State
	store  cluster.StateStore // what the engine has for state
	engine *cluster.Engine
	toys   map[storage.GroupID]*toy
	fatal  chan error
	shut   bool
}

type change func(*cluster.Config)

func openNode(t testing.TB, fs vfs.FS, groups int, changes ...change) *node {
	t.Helper()
	n := openStores(t, fs, changes...)
	for g := range storage.GroupID(groups) {
		if err := n.add(g); err != nil {
			t.Fatal(err)
		}
	}
	n.engine.Start()
	return n
}

// openStores opens a node without groups, not started.
func openStores(t testing.TB, fs vfs.FS, changes ...change) *node {
	t.Helper()
	n := &node{t: t, fs: fs, toys: map[storage.GroupID]*toy{}, fatal: make(chan error, 8)}
	lc := storage.DefaultLogConfig("log")
	lc.FS, lc.Logger, lc.SegmentBytes = fs, quiet(), 1<<20
	sc := storage.DefaultStateConfig("state")
	sc.FS, sc.Logger, sc.CacheBytes, sc.MemTableBytes = fs, quiet(), 1<<20, 1<<20
	var err error
	if n.log, err = storage.OpenLog(lc); err != nil {
		t.Fatal(err)
	}
	if n.state, err = storage.OpenState(sc); err != nil {
		t.Fatal(err)
	}
	cfg := cluster.DefaultConfig()
	cfg.Log, cfg.State = n.log, n.state
	cfg.Logger, cfg.Registerer = quiet(), prometheus.NewRegistry()
	cfg.Clock = func() int64 { return time.Now().UnixMilli() }
	cfg.Fatal = func(err error) { n.fatal <- err }
	for _, c := range changes {
		c(&cfg)
	}
	n.store = cfg.State
	if n.engine, err = cluster.Open(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	return n
}

func (n *node) add(g storage.GroupID) error {
	n.toys[g] = newToy(g, n.state)
	return n.engine.AddGroup(g, storage.ReplicaID(100+g), n.toys[g])
}

func (n *node) close() {
	if n.shut {
		return
	}
	n.shut = true
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.engine.Stop(ctx); err != nil {
		n.t.Error(err)
	}
	_ = n.log.Close()
	_ = n.state.Close()
}

// leader waits until group g leads and returns the term.
func (n *node) leader(g storage.GroupID) uint64 {
	n.t.Helper()
	select {
	case term := <-n.toys[g].lead:
		return term
	case <-time.After(patience):
		n.t.Fatalf("group %d does not lead: %+v", g, n.engine.Status(g))
		return 0
	}
}

type answer struct {
	index uint64
	err   error
}

func packet(size int, fill byte) []byte {
	data := make([]byte, envelope.Size+size)
	for i := envelope.Size; i < len(data); i++ {
		data[i] = fill + byte(i)
	}
	return data
}

// propose proposes and returns where the answer will be.
func (n *node) propose(g storage.GroupID, term uint64, data []byte) <-chan answer {
	out := make(chan answer, 2) // room for an answer too many
	n.engine.Propose(g, term, data, func(result any, err error) {
		a := answer{err: err}
		if o, ok := result.(outcome); ok {
			a.index = o.Index
		}
		out <- a
	})
	return out
}

func (n *node) mustPropose(g storage.GroupID, term uint64, data []byte) uint64 {
	n.t.Helper()
	a := n.wait(n.propose(g, term, data))
	if a.err != nil {
		n.t.Fatal(a.err)
	}
	return a.index
}

func (n *node) wait(c <-chan answer) answer {
	n.t.Helper()
	select {
	case a := <-c:
		return a
	case <-time.After(patience):
		n.t.Fatal("no answer")
		return answer{}
	}
}

func (n *node) readIndex(g storage.GroupID) answer {
	n.t.Helper()
	out := make(chan answer, 2)
	n.engine.ReadIndex(g, func(index uint64, err error) { out <- answer{index, err} })
	return n.wait(out)
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); ; {
		if ok() {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("did not happen: %s", what)
		}
	}
}

func TestProposeApplyRead(t *testing.T) {
	n := openNode(t, vfs.NewMem(), 3)
	for g := range storage.GroupID(3) {
		term := n.leader(g)
		for i := range 10 {
			if want, got := uint64(cluster.FirstIndex+1+i), n.mustPropose(g, term, packet(100, byte(i))); got != want {
				t.Fatalf("group %d: index %d, want %d", g, got, want)
			}
		}
		a := n.readIndex(g)
		if a.err != nil || a.index != cluster.FirstIndex+10 {
			t.Fatalf("read index: %+v", a)
		}
		for i := range uint64(10) {
			if err := n.toys[g].check(n.engine, cluster.FirstIndex+1+i, 100+envelope.Size); err != nil {
				t.Fatal(err)
			}
		}
		if s := n.engine.Status(g); !s.Leads || s.Applied != cluster.FirstIndex+10 || s.Err != nil {
			t.Fatalf("status %+v", s)
		}
	}
}

func TestRestartGoesOn(t *testing.T) {
	fs := vfs.NewMem()
	n := openNode(t, fs, 2)
	first := n.leader(1)
	for i := range 20 {
		n.mustPropose(1, first, packet(10, byte(i)))
	}
	n.close()

	n = openNode(t, fs, 2)
	second := n.leader(1)
	if second <= first {
		t.Fatalf("term %d after %d", second, first)
	}
	if a := n.readIndex(1); a.err != nil || a.index < cluster.FirstIndex+21 {
		t.Fatalf("read after restart: %+v", a)
	}
	if a := n.wait(n.propose(1, first, packet(10, 0))); !errors.Is(a.err, cluster.ErrNotLeader) {
		t.Fatalf("old term: %v", a.err)
	}
	n.mustPropose(1, second, packet(10, 99))
}

func TestRefusals(t *testing.T) {
	n := openNode(t, vfs.NewMem(), 1)
	term := n.leader(0)
	if a := n.wait(n.propose(7, term, packet(1, 0))); !errors.Is(a.err, cluster.ErrNoGroup) {
		t.Errorf("unknown group: %v", a.err)
	}
	if a := n.wait(n.propose(0, term+1, packet(1, 0))); !errors.Is(a.err, cluster.ErrNotLeader) {
		t.Errorf("future term: %v", a.err)
	}
	if a := n.wait(n.propose(0, term, make([]byte, 3))); !errors.Is(a.err, envelope.ErrShort) {
		t.Errorf("no room for the envelope: %v", a.err)
	}
	if _, err := n.engine.ReadAt(0, 1000, 0, 1, nil); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("read of the future: %v", err)
	}
	n.close()
	if a := n.wait(n.propose(0, term, packet(1, 0))); !errors.Is(a.err, cluster.ErrStopped) {
		t.Errorf("after stop: %v", a.err)
	}
	if a := n.readIndex(0); !errors.Is(a.err, cluster.ErrStopped) {
		t.Errorf("read after stop: %v", a.err)
	}
}

func TestStopIsIdempotentAndMayComeFirst(t *testing.T) {
	n := openStores(t, vfs.NewMem())
	if err := n.add(0); err != nil {
		t.Fatal(err)
	}
	answered := n.propose(0, 6, packet(1, 0))
	for range 2 {
		if err := n.engine.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if a := n.wait(answered); !errors.Is(a.err, cluster.ErrStopped) {
		t.Fatalf("queued before the end: %v", a.err)
	}
	n.engine.Start()
	if err := n.add(1); !errors.Is(err, cluster.ErrStopped) {
		t.Fatalf("add after stop: %v", err)
	}
}

// Every proposal is answered exactly once, whenever the engine stops.
func TestStopAnswersEverything(t *testing.T) {
	for round := range 5 {
		n := openNode(t, vfs.NewMem(), 4)
		terms := make([]uint64, 4)
		for g := range terms {
			terms[g] = n.leader(storage.GroupID(g))
		}
		var mu sync.Mutex
		answers, proposed := map[int]int{}, 0
		var wg sync.WaitGroup
		for g := range terms {
			wg.Go(func() {
				for i := range 200 {
					id := g*1000 + i
					mu.Lock()
					proposed++
					mu.Unlock()
					n.engine.Propose(storage.GroupID(g), terms[g], packet(50, 1), func(_ any, err error) {
						mu.Lock()
						defer mu.Unlock()
						answers[id]++
						if err != nil && !errors.Is(err, cluster.ErrUnknown) && !errors.Is(err, cluster.ErrStopped) {
							t.Error(err)
						}
					})
				}
			})
		}
		if round%2 == 1 {
			wg.Wait()
		}
		n.close()
		wg.Wait()
		mu.Lock()
		for id, times := range answers {
			if times != 1 {
				t.Errorf("proposal %d answered %d times", id, times)
			}
		}
		if len(answers) != proposed {
			t.Errorf("%d of %d answered", len(answers), proposed)
		}
		mu.Unlock()
	}
}

func TestServesQuicklyAfterStart(t *testing.T) {
	n := openNode(t, vfs.NewMem(), 17)
	for g := range storage.GroupID(17) {
		term := n.leader(g)
		n.mustPropose(g, term, packet(1, 0))
	}
	if _, err := n.engine.ReadAt(3, cluster.FirstIndex+1, 0, envelope.Size+1, nil); err != nil {
		t.Fatal(err)
	}
}
