package client

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// null answers every packet at once and keeps nothing.
type null struct {
	waystationv1.UnimplementedWaystationServer
	frames, packets atomic.Int64
}

func (n *null) PublishStream(s grpc.BidiStreamingServer[waystationv1.PublishStreamRequest, waystationv1.PublishStreamResponse]) error {
	var index uint64
	for {
		var f codec.PublishFrame
		if err := s.RecvMsg(&f); err != nil {
			return err
		}
		answer := make([]byte, 0, 64*len(f.Packets))
		for i := range f.Packets {
			p := &f.Packets[i]
			answer = wire.AppendResult(answer, index, &wire.ResultView{Repo: p.Repo, ID: p.ID, Sequence: p.Sequence})
			index++
		}
		n.frames.Add(1)
		n.packets.Add(int64(len(f.Packets)))
		f.Free()
		if err := s.SendMsg(&codec.Raw{Bytes: answer}); err != nil {
			return err
		}
	}
}

func serveNull(b *testing.B) (*null, string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	n := new(null)
	s := grpc.NewServer(
		grpc.ForceServerCodecV2(codec.NewServer(codec.NewPool(), wire.DefaultLimits())),
		grpc.ReadBufferSize(128<<10), grpc.WriteBufferSize(128<<10),
		grpc.InitialWindowSize(4<<20), grpc.InitialConnWindowSize(8<<20),
	)
	waystationv1.RegisterWaystationServer(s, n)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l)
	}()
	b.Cleanup(func() {
		s.Stop()
		<-served
	})
	return n, l.Addr().String()
}

// BenchmarkPublishAsync is the whole publishing path over TCP on loopback, the
// null server's part included.
func BenchmarkPublishAsync(b *testing.B) {
	for _, size := range []int{100, 1024} {
		for _, connections := range []int{1, 8} {
			b.Run(fmt.Sprintf("size=%d/connections=%d", size, connections), func(b *testing.B) {
				publishMany(b, size, connections)
			})
		}
	}
}

func publishMany(b *testing.B, size, connections int) {
	n, addr := serveNull(b)
	ctx := context.Background()
	c, err := Dial(ctx, addr, WithConnections(connections))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	repos := make([]string, 1000)
	for i := range repos {
		repos[i] = fmt.Sprintf("bench/repository-%d", i)
	}
	content := make([]byte, size)
	var failed atomic.Int64
	done := func(_ Receipt, err error) {
		if err != nil {
			failed.Add(1)
		}
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	p := Packet{Content: content}
	for i := range b.N {
		p.RepoID = repos[i%len(repos)]
		if err := c.PublishAsync(ctx, &p, done); err != nil {
			b.Fatal(err)
		}
	}
	if err := c.Flush(ctx); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if failed.Load() > 0 || n.packets.Load() != int64(b.N) {
		b.Fatalf("%d failed, %d of %d arrived", failed.Load(), n.packets.Load(), b.N)
	}
	b.ReportMetric(float64(n.packets.Load())/float64(n.frames.Load()), "packets/frame")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "packets/s")
}

// Work grants without an end: batches of eight, up to the credit, and answers
// every settlement with yes.
func (n *null) Work(s grpc.BidiStreamingServer[waystationv1.WorkRequest, waystationv1.WorkResponse]) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	packet := wire.AppendPacket(nil, &wire.PacketFields{RepoID: "x", Content: make([]byte, 1024)})
	var token uint64
	open := make(map[string]int) // what is left of a repository's grant
	free := max(8, int(first.GetOpen().GetCredit()))
	ready := true
	for {
		var b []byte
		if ready {
			b, ready = append(b, 4<<3, 1), false
		}
		for ; free >= 8; free -= 8 {
			token++
			repo := fmt.Sprintf("bench/repository-%d", token%10_000)
			head := wire.AppendPacket(nil, &wire.PacketFields{RepoID: repo})
			open[repo] = 8
			for i := range uint64(8) {
				b = wire.AppendDelivery(b, &wire.DeliveryView{
					Packet: append(packet[:len(packet):len(packet)], head...), Sequence: token*8 + i, LeaseToken: token, Attempt: 1, LeaseMs: 30_000,
				})
			}
		}
		if len(b) > 0 {
			if err := s.SendMsg(&codec.Raw{Bytes: b}); err != nil {
				return err
			}
		}
		req, err := s.Recv()
		if err != nil {
			return err
		}
		resp := &waystationv1.WorkResponse{}
		for _, st := range req.GetSettlements() {
			resp.Settlements = append(resp.Settlements, &waystationv1.SettlementResult{RepoId: st.GetRepoId(), Sequence: st.GetSequence()})
			if open[st.GetRepoId()]--; open[st.GetRepoId()] == 0 {
				delete(open, st.GetRepoId())
			}
			free++
		}
		if req.GetDrain() {
			free = -1 << 40
		}
		n.frames.Add(1)
		if err := s.Send(resp); err != nil {
			return err
		}
	}
}

// BenchmarkWork is the path from a delivery to its answered settlement, the null
// server's part with standard protobuf included.
func BenchmarkWork(b *testing.B) {
	n, addr := serveNull(b)
	c, err := Dial(context.Background(), addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var calls atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	err = c.Work(context.Background(), "bench", func(context.Context, *Delivery) error {
		calls.Add(1)
		return nil
	}, WithConcurrency(8), WithCredit(1024), WithMaxPackets(b.N))
	if err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if calls.Load() != int64(b.N) {
		b.Fatalf("%d calls, want %d", calls.Load(), b.N)
	}
	b.ReportMetric(float64(b.N)/float64(n.frames.Load()), "packets/frame")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "packets/s")
}
