package transport

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/storage"
)

// BenchmarkTwoPeers sends entries to two peers, as a leader does, over
// loopback; bytes are those of the entries, counted once per peer.
func BenchmarkTwoPeers(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 512 << 10} {
		b.Run(fmt.Sprintf("entry=%d", size), func(b *testing.B) {
			w := newWorld(b)
			var got atomic.Int64
			count := func(c *Config) {
				c.Receive = func(_ storage.GroupID, ms []*pb.Message) { got.Add(int64(len(ms))) }
			}
			a := w.start(1, nil)
			for i := 2; i <= 3; i++ {
				w.start(i, count)
				a.connected(i)
			}
			data := appendMessage(1, 2, 1, size).Entries
			b.SetBytes(2 * int64(size))
			b.ReportAllocs()
			frames := a.metric("frames_sent_total")
			b.ResetTimer()
			for i := range b.N {
				for int64(2*i)-got.Load() > min(4096, max(4, 16<<20/int64(size))) { // as raft's window does
					runtime.Gosched()
				}
				for to := 2; to <= 3; to++ {
					m := message(pb.MsgApp, 1, to, uint64(i))
					m.Entries = data
					a.Send(storage.GroupID(i%16), []*pb.Message{m})
				}
			}
			for got.Load() < int64(2*b.N) {
				runtime.Gosched()
			}
			b.StopTimer()
			b.ReportMetric(float64(2*b.N)/(a.metric("frames_sent_total")-frames), "msgs/frame")
		})
	}
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
	w := newWorld(b)
	var got atomic.Int64
	a := w.start(1, nil)
	w.start(2, func(c *Config) {
		c.Receive = func(_ storage.GroupID, ms []*pb.Message) { got.Add(int64(len(ms))) }
	})
	a.connected(2)
	b.ReportAllocs()
	frames := a.metric("frames_sent_total")
	b.ResetTimer()
	for i := range b.N {
		for g := range storage.GroupID(64) {
			a.Send(g, []*pb.Message{heartbeat(1, 2)})
		}
		for got.Load() < int64(64*(i+1)) {
			runtime.Gosched()
		}
	}
	b.StopTimer()
	b.ReportMetric((a.metric("frames_sent_total")-frames)/float64(b.N), "frames/round")
}
