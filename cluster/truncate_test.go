package cluster_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/storage"
)

// While logs are truncated under load, everything that something refers to can
// be read, from the log or the spill.
func TestTruncationUnderLoad(t *testing.T) {
	const groups = 3
	n := openNode(t, vfs.NewMem(), groups, smallLogs)
	book := newLedger()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range storage.GroupID(groups) {
		term := n.leader(g)
		wg.Go(func() { book.produce(n, g, term, 2000, 5, stop) })
	}
	wg.Go(func() {
		r := rand.New(rand.NewPCG(1, 1))
		for {
			select {
			case <-stop:
				return
			case <-book.count:
			}
			acked := slices.Collect(maps.Keys(book.copy()))
			p := acked[r.IntN(len(acked))]
			if err := n.toys[p.group].checkAny(n.engine, p.index); err != nil {
				t.Errorf("group %d: %v", p.group, err)
				return
			}
		}
	})
	for g := range storage.GroupID(groups) {
		eventually(t, "truncation", func() bool { return n.log.Truncated(g).Index > cluster.FirstIndex+150 || t.Failed() })
	}
	close(stop)
	wg.Wait()
	if err := verify(n, book.copy()); err != nil {
		t.Fatal(err)
	}
	for g := range storage.GroupID(groups) {
		s := n.engine.Status(g)
		if s.First <= cluster.FirstIndex+150 || s.LogBytes > 256<<10 || s.CacheBytes > 16<<10 {
			t.Errorf("group %d: %+v", g, s)
		}
	}
}

// A log that was left long by a crash is cut without a new load.
func TestLongLogIsCutAtStart(t *testing.T) {
	fs := vfs.NewMem()
	n := openNode(t, fs, 1)
	term := n.leader(0)
	for i := range 100 {
		n.mustPropose(0, term, packet(1000, byte(i)))
	}
	n.close()
	n = openNode(t, fs, 1, smallLogs)
	n.leader(0)
	eventually(t, "truncation", func() bool { return n.log.Truncated(0).Index > cluster.FirstIndex+70 })
}

// A spill that fails stops the replica; its log is not cut.
func TestSpillErrorKeepsTheLog(t *testing.T) {
	n := openStores(t, vfs.NewMem(), smallLogs)
	if err := n.add(0); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("no room")
	n.toys[0].spillErr = broken
	n.engine.Start()
	term := n.leader(0)
	for i := 0; n.engine.Status(0).Err == nil; i++ {
		n.wait(n.propose(0, term, packet(1000, byte(i))))
	}
	if s := n.engine.Status(0); !errors.Is(s.Err, broken) || s.First != cluster.FirstIndex {
		t.Fatalf("%+v", s)
	}
}
