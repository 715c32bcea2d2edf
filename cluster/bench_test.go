//go:build unix

package cluster_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/messages/envelope"
	"github.com/waystation/waystation/storage"
)

// referrer is a state machine that writes what a repository machine has to
// write at the least: one reference for each repository and entry.
type referrer struct {
	group   storage.GroupID
	state   *storage.State
	repos   int
	applied uint64
	lead    chan uint64
}

func (r *referrer) Applied() (uint64, []byte, error) { return 0, nil, nil }

func (r *referrer) AppliedIn(storage.Reader) (uint64, []byte, error) { return 0, nil, nil }

func (r *referrer) ApplyConf(storage.Entry, []byte) error { return nil }

func (r *referrer) KeyRange() (lower, upper []byte) {
	return binary.BigEndian.AppendUint32(nil, uint32(r.group)), binary.BigEndian.AppendUint32(nil, uint32(r.group)+1)
}

func (r *referrer) Installed() error { return nil }

func (r *referrer) Apply(e storage.Entry) (any, error) {
	b := r.state.NewBatch()
	if len(e.Data) > 0 {
		packets := (len(e.Data) - envelope.Size) / 1024
		for i := range min(packets, r.repos) {
			k, v := b.SetDeferred(32, 40)
			binary.BigEndian.PutUint32(k, uint32(r.group))
			binary.BigEndian.PutUint32(k[4:], uint32(i))
			binary.BigEndian.PutUint64(k[24:], e.Index)
			binary.BigEndian.PutUint64(v, e.Index)
		}
	}
	k, v := b.SetDeferred(5, 8)
	binary.BigEndian.PutUint32(k, uint32(r.group))
	k[4] = 'a'
	binary.BigEndian.PutUint64(v, e.Index)
	r.applied = e.Index
	return nil, b.Commit()
}

func (r *referrer) Settled(upTo uint64) (uint64, error) { return upTo, nil }

func (r *referrer) Spill(uint64, int, func(uint64) ([]byte, error)) (bool, error) { return true, nil }

func (r *referrer) Durable(rd storage.Reader, upTo uint64) (bool, error) {
	v, err := rd.Get(append(binary.BigEndian.AppendUint32(nil, uint32(r.group)), 'a'))
	return err == nil && binary.BigEndian.Uint64(v) >= upTo, err
}

func (r *referrer) LeaderStart(term uint64) { r.lead <- term }
func (r *referrer) LeaderStop(uint64)       {}

// benchNode is an engine on the disk under b.TempDir.
func benchNode(b *testing.B, groups int) (*cluster.Engine, []uint64) {
	lc, sc := storage.DefaultLogConfig(b.TempDir()), storage.DefaultStateConfig(b.TempDir())
	lc.FS, lc.Logger, sc.FS, sc.Logger = vfs.Default, quiet(), vfs.Default, quiet()
	log, err := storage.OpenLog(lc)
	if err != nil {
		b.Fatal(err)
	}
	state, err := storage.OpenState(sc)
	if err != nil {
		b.Fatal(err)
	}
	cfg := cluster.DefaultConfig()
	cfg.Log, cfg.State, cfg.Logger, cfg.Registerer = log, state, quiet(), prometheus.NewRegistry()
	cfg.Clock = func() int64 { return time.Now().UnixMilli() }
	cfg.Fatal = func(err error) { b.Error(err) }
	e, err := cluster.Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	var sms []*referrer
	for g := range storage.GroupID(groups) {
		sm := &referrer{group: g, state: state, repos: 1000 / 16, lead: make(chan uint64, 1)}
		if err := e.AddGroup(g, storage.ReplicaID(g+1), sm); err != nil {
			b.Fatal(err)
		}
		sms = append(sms, sm)
	}
	e.Start()
	terms := make([]uint64, groups)
	for g, sm := range sms {
		terms[g] = <-sm.lead
	}
	b.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			b.Log(err)
		}
		_, _ = log.Close(), state.Close()
	})
	return e, terms
}

// cpuTime is what this process has used. On a busy machine it says more than
// packets per second do.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// noise is what entries are made of: packets that do not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

// BenchmarkEngine is the yardstick for what stands on the engine: raft and two
// Pebbles on the disk, entries of 1 KiB packets, state writes the size of
// references, one entry in flight for each partition, and nothing else. An
// operation is an entry.
func BenchmarkEngine(b *testing.B) {
	for _, groups := range []int{1, 16} {
		for _, packets := range []int{1, 64, 256, 512} {
			b.Run(fmt.Sprintf("groups=%d/packets=%d", groups, packets), func(b *testing.B) {
				e, terms := benchNode(b, groups)
				payload := noise(packets * 1024)
				b.SetBytes(int64(len(payload)))
				b.ReportAllocs()
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				cpu := cpuTime(b)
				b.ResetTimer()
				for g := range terms {
					wg.Go(func() { keepOneInFlight(b, e, storage.GroupID(g), terms[g], payload, &left) })
				}
				wg.Wait()
				b.StopTimer()
				b.ReportMetric(float64(b.N*packets)/b.Elapsed().Seconds(), "packets/s")
				b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/1000/float64(b.N*packets), "cpu-µs/packet")
			})
		}
	}
}

// keepOneInFlight does what a batcher does: it builds the next entry while the
// last one is on its way.
func keepOneInFlight(b *testing.B, e *cluster.Engine, g storage.GroupID, term uint64, payload []byte, left *atomic.Int64) {
	done := make(chan error, 1)
	build := func() []byte {
		data := make([]byte, envelope.Size, envelope.Size+len(payload))
		return append(data, payload...)
	}
	for next := build(); left.Add(-1) >= 0; {
		e.Propose(g, term, next, func(_ any, err error) { done <- err })
		next = build()
		if err := <-done; err != nil {
			b.Error(err)
			return
		}
	}
}

// BenchmarkEngineLatency is a single packet on an idle node.
func BenchmarkEngineLatency(b *testing.B) {
	e, terms := benchNode(b, 16)
	payload := noise(1024)
	took := make([]time.Duration, 0, b.N)
	done := make(chan error, 1)
	for i := range b.N {
		g := i % len(terms)
		data := append(make([]byte, envelope.Size), payload...)
		begin := time.Now()
		e.Propose(storage.GroupID(g), terms[g], data, func(_ any, err error) { done <- err })
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
