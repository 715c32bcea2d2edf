package cluster_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/messages/envelope"
	"github.com/waystation/waystation/storage"
)

// ledger is what proposers were told.
type ledger struct {
	mu    sync.Mutex
	acked map[place]uint64 // entry → the stamp in its payload
	stamp uint64
	count chan struct{}
}

type place struct {
	group storage.GroupID
	index uint64
}

func newLedger() *ledger {
	return &ledger{acked: map[place]uint64{}, count: make(chan struct{}, 1<<16)}
}

// copy returns what was acknowledged up to now.
func (l *ledger) copy() map[place]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.acked)
}

// produce keeps proposals of up to size bytes going, a few in flight, until
// stop is closed.
func (l *ledger) produce(n *node, g storage.GroupID, term uint64, size int, seed uint64, stop <-chan struct{}) {
	r := rand.New(rand.NewPCG(seed, uint64(g)))
	slots := make(chan struct{}, 4)
	for {
		select {
		case <-stop:
			for range cap(slots) {
				slots <- struct{}{}
			}
			return
		case slots <- struct{}{}:
		}
		l.mu.Lock()
		l.stamp++
		stamp := l.stamp
		l.mu.Unlock()
		data := packet(8+r.IntN(size), byte(stamp))
		binary.BigEndian.PutUint64(data[envelope.Size:], stamp)
		n.engine.Propose(g, term, data, func(result any, err error) {
			if o, ok := result.(outcome); ok && err == nil && !o.Void {
				l.mu.Lock()
				l.acked[place{g, o.Index}] = stamp
				l.mu.Unlock()
				select {
				case l.count <- struct{}{}:
				default:
				}
			}
			<-slots
		})
	}
}

// verify compares a node with what was acknowledged.
func verify(n *node, acked map[place]uint64) error {
	for p, stamp := range acked {
		toy := n.toys[p.group]
		v, err := n.state.Get(toy.key('e', p.index))
		if err != nil {
			return fmt.Errorf("group %d entry %d: %w", p.group, p.index, err)
		}
		if got := binary.BigEndian.Uint64(v[20:]); got != stamp {
			return fmt.Errorf("group %d entry %d: stamp %d, want %d", p.group, p.index, got, stamp)
		}
		if err := toy.checkAny(n.engine, p.index); err != nil {
			return fmt.Errorf("group %d: %w", p.group, err)
		}
	}
	return nil
}

func smallLogs(c *cluster.Config) {
	c.GroupLogBytes, c.TotalLogBytes = 32<<10, 96<<10
	c.SpillBytes, c.CacheBytes = 4<<10, 16<<10
}

// After a crash at any moment, with any part of what was not synced, nothing
// that was acknowledged is missing, and log and state still fit together.
// Logs are truncated all the while.
func TestCrashLosesNothingAcknowledged(t *testing.T) {
	const groups = 3
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 99))
			fs := vfs.NewCrashableMem()
			book := newLedger()
			for round := range 6 {
				n := openNode(t, fs, groups, smallLogs)
				terms := make([]uint64, groups)
				for g := range terms {
					terms[g] = n.leader(storage.GroupID(g))
				}
				if err := verify(n, book.copy()); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				stop := make(chan struct{})
				var wg sync.WaitGroup
				for g := range terms {
					wg.Go(func() { book.produce(n, storage.GroupID(g), terms[g], 2000, seed, stop) })
				}
				for range 100 + r.IntN(300) {
					<-book.count
				}
				before := book.copy()
				fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
				close(stop)
				wg.Wait()
				n.close()
				// What was acknowledged after the clone is not in it.
				book.acked = before
			}
		})
	}
}
