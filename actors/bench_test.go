package actors

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/waystation/waystation/messages/wire"
	"github.com/waystation/waystation/storage"
)

// benchSink counts, as a stream would append to its next message.
type benchSink struct {
	b      *testing.B
	window chan struct{}
	buf    []byte
	mu     sync.Mutex
	got    atomic.Int64
	calls  atomic.Int64
}

func (s *benchSink) Results(rs []PublishResult) {
	s.mu.Lock()
	s.buf = s.buf[:0]
	for i := range rs {
		r := &rs[i]
		if r.Refusal != nil {
			s.b.Errorf("packet %d of %s refused: %v", r.Index, r.Repo, r.Refusal)
		}
		v := wire.ResultView{Repo: r.Repo, ID: r.ID, Sequence: uint64(r.Seq), Duplicate: r.Duplicate}
		s.buf = wire.AppendResult(s.buf, r.Index, &v)
	}
	s.mu.Unlock()
	s.calls.Add(1)
	s.got.Add(int64(len(rs)))
	for range rs {
		<-s.window
	}
}

// BenchmarkOfferToReceipt is the way from a parsed frame to its receipts with
// everything but the network, raft and the log: 8 streams, 1,000 repositories,
// 1 KiB packets in frames of 64, 4,096 in flight.
func BenchmarkOfferToReceipt(b *testing.B) {
	for _, ids := range []bool{false, true} {
		b.Run(map[bool]string{false: "positions", true: "ids"}[ids], func(b *testing.B) { benchmarkOffer(b, ids) })
	}
}

func benchmarkOffer(b *testing.B, ids bool) {
	const streams, repos, frame, window = 8, 1000, 64, 4096
	cfg := storage.DefaultStateConfig(b.TempDir())
	cfg.Logger = slog.New(slog.DiscardHandler)
	state, err := storage.OpenState(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = state.Close() })
	h := startHarness(b, state, func(c *Config) { c.Partitions = 16 }, nil)
	h.proposer.keepLogs = false
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	var wg sync.WaitGroup
	sinks := make([]*benchSink, streams)
	for s := range streams {
		sinks[s] = &benchSink{b: b, window: make(chan struct{}, window/streams)}
		wg.Add(1)
		go func() {
			defer wg.Done()
			stream(b, h.relay, sinks[s], s, b.N/streams+1, repos/streams, frame, ids)
		}()
	}
	wg.Wait()
	total := int64(0)
	calls := int64(0)
	for _, s := range sinks {
		await(b, "receipts", func() bool { return s.got.Load() == int64(b.N/streams+1) })
		total += s.got.Load()
		calls += s.calls.Load()
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-before)/float64(total), "cpu-ns/packet")
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "packets/s")
	b.ReportMetric(float64(total)/float64(calls), "receipts/call")
}

// cpuTime is what the process has used: unlike the time that passes, it says something on a
// machine with other work.
func cpuTime(b *testing.B) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

type benchFrame struct {
	frame Frame
	bytes [][]byte
}

func stream(b *testing.B, r *Relay, sink *benchSink, s, n, repos, size int, ids bool) {
	content := make([]byte, 1024)
	names := make([]string, repos)
	seq := make([]uint64, repos)
	for i := range names {
		names[i] = fmt.Sprintf("org-%d/repository-%d", s, i)
	}
	producer := fmt.Sprintf("%s-%d-%p", b.Name(), s, sink)
	free := make(chan *benchFrame, 256)
	for at := 0; at < n; {
		var f *benchFrame
		select {
		case f = <-free:
		default:
			f = &benchFrame{}
			f.frame.Release = func() {
				select {
				case free <- f:
				default:
				}
			}
		}
		f.frame.First, f.frame.Packets = uint64(at), f.frame.Packets[:0]
		for i := 0; i < size && at < n; i++ {
			sink.window <- struct{}{}
			repo := at % repos
			seq[repo]++
			fields := wire.PacketFields{RepoID: names[repo], Content: content}
			if ids {
				fields.PacketID = fmt.Sprintf("%s-%d", producer, at)
			} else {
				fields.Producer, fields.Epoch, fields.Sequence = producer, 1, seq[repo]
			}
			if len(f.bytes) <= i {
				f.bytes = append(f.bytes, nil)
			}
			f.bytes[i] = wire.AppendPacket(f.bytes[i][:0], &fields)
			var p wire.Packet
			if err := p.Parse(f.bytes[i]); err != nil {
				b.Error(err)
			}
			f.frame.Packets = append(f.frame.Packets, p)
			at++
		}
		r.Offer(&f.frame, sink)
	}
}
