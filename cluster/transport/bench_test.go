package transport

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/storage"
)

// meter counts what peers got, and says when there is room for more.
type meter struct {
	got  atomic.Int64
	bell chan struct{}
}

func newMeter() *meter { return &meter{bell: make(chan struct{}, 1)} }

func (m *meter) count(c *Config) {
	c.Receive = func(_ storage.GroupID, ms []*pb.Message) {
		m.got.Add(int64(len(ms)))
		select {
		case m.bell <- struct{}{}:
		default:
		}
	}
}

func (m *meter) await(n int64) {
	for m.got.Load() < n {
		<-m.bell
	}
}

// cpu is the processor time of this process so far.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTwoPeers sends entries to two peers, as a leader does, over
// loopback; bytes are those of the entries, counted once per peer. cpu-ns/B is
// what both ends cost together.
func BenchmarkTwoPeers(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 64 << 10, 512 << 10} {
		b.Run(fmt.Sprintf("entry=%d", size), func(b *testing.B) { benchTwoPeers(b, size) })
	}
}

func benchTwoPeers(b *testing.B, size int) {
	w, m := newWorld(b), newMeter()
	a := w.start(1, nil)
	for i := 2; i <= 3; i++ {
		w.start(i, m.count)
		a.connected(i)
	}
	entries := appendMessage(1, 2, 1, size).Entries
	window := min(4096, max(4, 16<<20/int64(size))) // as raft has one
	b.SetBytes(2 * int64(size))
	b.ReportAllocs()
	frames := a.metric("frames_sent_total")
	b.ResetTimer()
	used := cpu(b)
	for i := range b.N {
		m.await(int64(2*i) - window)
		for to := 2; to <= 3; to++ {
			x := message(pb.MsgApp, 1, to, uint64(i))
			x.Entries = entries
			a.Send(storage.GroupID(i%16), []*pb.Message{x})
		}
	}
	m.await(int64(2 * b.N))
	used = cpu(b) - used
	b.StopTimer()
	b.ReportMetric(float64(2*b.N)/(a.metric("frames_sent_total")-frames), "msgs/frame")
	b.ReportMetric(float64(used)/float64(2*b.N*size), "cpu-ns/B")
}

// BenchmarkEncode and BenchmarkDecode compare the coding by hand with
// protobuf's, without a network.
func BenchmarkEncode(b *testing.B) {
	for name, m := range benchMessages() {
		b.Run(name+"/hand", func(b *testing.B) {
			var e encoder
			b.SetBytes(int64(sizeMessage(m)))
			b.ReportAllocs()
			for range b.N {
				e.begin()
				if err := e.add(1, m, sizeMessage(m)); err != nil {
					b.Fatal(err)
				}
				e.end()
			}
		})
		b.Run(name+"/proto", func(b *testing.B) {
			var buf []byte
			b.SetBytes(int64(sizeMessage(m)))
			b.ReportAllocs()
			for range b.N {
				var err error
				if buf, err = (proto.MarshalOptions{}).MarshalAppend(buf[:0], m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, m := range benchMessages() {
		raw, err := proto.Marshal(m)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/hand", func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for range b.N {
				c := new(messageCell)
				block := raw
				if len(raw) > scratchBytes {
					block = append(make([]byte, 0, len(raw)), raw...) // what reading it costs
				}
				if err := decodeMessage(c, block, len(raw) > scratchBytes); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/proto", func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for range b.N {
				if err := proto.Unmarshal(raw, new(pb.Message)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchMessages() map[string]*pb.Message {
	small := appendMessage(1, 2, 1, 1<<10)
	many := appendMessage(1, 2, 1, 1<<10)
	for i := range uint64(15) {
		many.Entries = append(many.Entries, appendMessage(1, 2, 2+i, 1<<10).Entries...)
	}
	return map[string]*pb.Message{
		"heartbeat": heartbeat(1, 2), "append=1KiB": small, "append=16x1KiB": many, "append=512KiB": appendMessage(1, 2, 1, 512<<10),
	}
}

// BenchmarkHeartbeats sends a round of plain heartbeats of 64 groups.
func BenchmarkHeartbeats(b *testing.B) {
	w, m := newWorld(b), newMeter()
	a := w.start(1, nil)
	w.start(2, m.count)
	a.connected(2)
	b.ReportAllocs()
	frames := a.metric("frames_sent_total")
	b.ResetTimer()
	used := cpu(b)
	for i := range b.N {
		for g := range storage.GroupID(64) {
			a.Send(g, []*pb.Message{heartbeat(1, 2)})
		}
		m.await(int64(64 * (i + 1)))
	}
	used = cpu(b) - used
	b.StopTimer()
	b.ReportMetric((a.metric("frames_sent_total")-frames)/float64(b.N), "frames/round")
	b.ReportMetric(float64(used)/float64(b.N), "cpu-ns/round")
}
