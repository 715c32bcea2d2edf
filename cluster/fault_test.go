package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/storage"
)

// syncs is a file system whose syncs of the raft log can fail or hang.
type syncs struct {
	fail atomic.Bool
	hang atomic.Pointer[chan struct{}]
}

func (s *syncs) wrap(fs vfs.FS) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind != errorfs.OpFileSync && op.Kind != errorfs.OpFileSyncData && op.Kind != errorfs.OpFileSyncTo {
			return nil
		}
		if !strings.HasPrefix(op.Path, "log/") || !strings.HasSuffix(op.Path, ".seg") {
			return nil
		}
		if c := s.hang.Load(); c != nil {
			<-*c
		}
		if s.fail.Load() {
			return errors.New("injected")
		}
		return nil
	}))
}

func (n *node) wantFatal() error {
	n.t.Helper()
	select {
	case err := <-n.fatal:
		return err
	case <-time.After(patience):
		n.t.Fatal("the process was not ended")
		return nil
	}
}

func TestFailedSyncIsFatal(t *testing.T) {
	var s syncs
	n := openNode(t, s.wrap(vfs.NewMem()), 2)
	n.leader(0)
	term := n.leader(1)
	n.mustPropose(1, term, packet(10, 1))

	s.fail.Store(true)
	waiting := n.propose(1, term, packet(10, 2))
	if err := n.wantFatal(); !errors.Is(err, storage.ErrSync) {
		t.Fatalf("fatal: %v", err)
	}
	if a := n.wait(waiting); !errors.Is(a.err, cluster.ErrUnknown) {
		t.Fatalf("in flight: %+v", a)
	}
	s.fail.Store(false) // a sync that works again proves nothing
	for g := range storage.GroupID(2) {
		if a := n.wait(n.propose(g, term, packet(10, 3))); !errors.Is(a.err, cluster.ErrStopped) {
			t.Fatalf("afterwards: %+v", a)
		}
	}
	n.close()
	if len(n.fatal) > 0 {
		t.Fatalf("a second time: %v", <-n.fatal)
	}
}

func TestHungSyncIsFatal(t *testing.T) {
	var s syncs
	n := openNode(t, s.wrap(vfs.NewMem()), 1, func(c *cluster.Config) {
		c.SyncLimit, c.Tick = 2*time.Second, 5*time.Millisecond // longer than a busy machine takes
	})
	term := n.leader(0)
	release := make(chan struct{})
	s.hang.Store(&release)
	waiting := n.propose(0, term, packet(10, 2))
	if err := n.wantFatal(); !strings.Contains(err.Error(), "fsync hung") {
		t.Fatalf("fatal: %v", err)
	}
	if a := n.wait(waiting); !errors.Is(a.err, cluster.ErrUnknown) {
		t.Fatalf("in flight: %+v", a)
	}
	// Stop does not wait for the disk longer than it is told to.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := n.engine.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("stop: %v", err)
	}
	s.hang.Store(nil)
	close(release)
}

// depose makes a replica believe that somebody leads in a later term.
func (n *node) depose(g storage.GroupID, term uint64) {
	id := uint64(100 + g)
	n.engine.Receive(g, []*pb.Message{{
		Type: pb.MsgHeartbeat.Enum(), From: new(uint64(999)), To: &id, Term: &term,
	}})
}

func TestLostTermLeavesOutcomesUnknown(t *testing.T) {
	n := openStores(t, vfs.NewMem(), func(c *cluster.Config) { c.Tick = time.Millisecond })
	if err := n.add(0); err != nil {
		t.Fatal(err)
	}
	toy := n.toys[0]
	blocked, release := make(chan struct{}, 16), make(chan struct{})
	toy.before = func(e storage.Entry) error {
		if len(e.Data) > 0 {
			blocked <- struct{}{}
			<-release
		}
		return nil
	}
	n.engine.Start()
	term := n.leader(0)
	waiting := n.propose(0, term, packet(10, 7))
	<-blocked // it is committed, and about to be applied

	n.depose(0, term+3)
	// The answer does not wait for the apply loop.
	if a := n.wait(waiting); !errors.Is(a.err, cluster.ErrUnknown) {
		t.Fatalf("in flight: %+v", a)
	}
	if a := n.wait(n.propose(0, term, packet(10, 8))); !errors.Is(a.err, cluster.ErrNotLeader) {
		t.Fatalf("deposed: %+v", a)
	}
	close(release)
	next := n.leader(0)
	if next <= term+3 {
		t.Fatalf("leads again in term %d", next)
	}
	toy.mu.Lock()
	stops := fmt.Sprint(toy.stops)
	toy.mu.Unlock()
	if stops != fmt.Sprint([]uint64{term}) {
		t.Fatalf("stopped in terms %s, want %d", stops, term)
	}
	if a := n.readIndex(0); a.err != nil {
		t.Fatal(a.err)
	}
	// Unknown meant that it may have been applied; it was.
	if err := toy.check(n.engine, cluster.FirstIndex+1, -1); err != nil {
		t.Fatal(err)
	}
	if len(waiting) > 0 {
		t.Fatal("answered twice")
	}
}

// A replica that cannot apply stops, says why, and skips nothing. The others
// do not notice.
func TestApplyErrorStopsOneReplica(t *testing.T) {
	boom := errors.New("unknown version")
	for name, fail := range map[string]func() error{
		"error": func() error { return boom },
		"panic": func() error { panic("boom") },
	} {
		t.Run(name, func(t *testing.T) {
			n := openStores(t, vfs.NewMem())
			for g := range storage.GroupID(2) {
				if err := n.add(g); err != nil {
					t.Fatal(err)
				}
			}
			n.toys[1].before = func(e storage.Entry) error {
				if e.Index == cluster.FirstIndex+2 {
					return fail()
				}
				return nil
			}
			n.engine.Start()
			terms := []uint64{n.leader(0), n.leader(1)}
			n.mustPropose(1, terms[1], packet(1, 0))
			if a := n.wait(n.propose(1, terms[1], packet(1, 1))); !errors.Is(a.err, cluster.ErrUnknown) {
				t.Fatalf("%+v", a)
			}
			if a := n.wait(n.propose(1, terms[1], packet(1, 2))); !errors.Is(a.err, cluster.ErrStopped) {
				t.Fatalf("afterwards: %+v", a)
			}
			if a := n.readIndex(1); !errors.Is(a.err, cluster.ErrStopped) {
				t.Fatalf("read: %+v", a)
			}
			s := n.engine.Status(1)
			if s.Err == nil || s.Leads || s.Applied != cluster.FirstIndex+1 {
				t.Fatalf("status %+v", s)
			}
			n.mustPropose(0, terms[0], packet(1, 3))
			eventually(t, "leadership ends", func() bool {
				n.toys[1].mu.Lock()
				defer n.toys[1].mu.Unlock()
				return len(n.toys[1].stops) == 1
			})
			if len(n.fatal) > 0 {
				t.Fatal("one replica ended the process")
			}
		})
	}
}

func TestQuarantine(t *testing.T) {
	fill := func(t *testing.T) vfs.FS {
		fs := vfs.NewMem()
		n := openNode(t, fs, 1, smallLogs)
		term := n.leader(0)
		for i := range 200 {
			n.mustPropose(0, term, packet(1000, byte(i)))
		}
		eventually(t, "truncation", func() bool { return n.log.Truncated(0).Index > 50 })
		n.close()
		return fs
	}
	for name, lose := range map[string]string{"state": "state", "log": "log"} {
		t.Run(name, func(t *testing.T) {
			fs := fill(t)
			if err := fs.RemoveAll(lose); err != nil {
				t.Fatal(err)
			}
			n := openStores(t, fs)
			if err := n.add(0); !errors.Is(err, cluster.ErrQuarantined) {
				t.Fatalf("without its %s: %v", name, err)
			}
			if s := n.engine.Status(0); !errors.Is(s.Err, cluster.ErrQuarantined) || s.Leads {
				t.Fatalf("a quarantined replica runs: %+v", s)
			}
			if a := n.wait(n.propose(0, 1, packet(1, 0))); !errors.Is(a.err, cluster.ErrStopped) {
				t.Fatalf("a quarantined replica takes proposals: %+v", a)
			}
		})
	}
	t.Run("another replica's log", func(t *testing.T) {
		n := openStores(t, fill(t))
		if err := n.engine.AddGroup(0, 700, newToy(0, n.state)); !errors.Is(err, cluster.ErrQuarantined) {
			t.Fatal(err)
		}
	})
}

func TestFullQueueRefusesAtOnce(t *testing.T) {
	n := openStores(t, vfs.NewMem(), func(c *cluster.Config) { c.QueuedProposals, c.QueuedBytes = 3, 1000 })
	for g := range storage.GroupID(2) {
		if err := n.add(g); err != nil {
			t.Fatal(err)
		}
	}
	// The engine does not run yet: everything waits.
	for range 3 {
		n.propose(0, 6, packet(10, 0))
	}
	if a := n.wait(n.propose(0, 6, packet(10, 0))); !errors.Is(a.err, cluster.ErrDropped) {
		t.Fatalf("by count: %+v", a)
	}
	n.propose(1, 6, packet(5000, 0)) // larger than the limit, but alone
	if a := n.wait(n.propose(1, 6, packet(10, 0))); !errors.Is(a.err, cluster.ErrDropped) {
		t.Fatalf("by bytes: %+v", a)
	}
}

func TestLargeEntries(t *testing.T) {
	fs := vfs.NewMem()
	n := openNode(t, fs, 1)
	term := n.leader(0)
	var answers []<-chan answer
	for i := range 4 {
		answers = append(answers, n.propose(0, term, packet(9<<20, byte(i))))
	}
	for _, c := range answers {
		a := n.wait(c)
		if a.err != nil {
			t.Fatal(a.err)
		}
		if err := n.toys[0].checkAny(n.engine, a.index); err != nil {
			t.Fatal(err)
		}
	}
	n.close()
	n = openNode(t, fs, 1)
	n.mustPropose(0, n.leader(0), packet(1, 1))
}
