package codec_test

import (
	"testing"

	"google.golang.org/grpc/mem"

	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

const benchPackets = 64

func benchFrame() []byte {
	var frame []byte
	for range benchPackets {
		frame = wire.AppendFramePacket(frame, &wire.PacketFields{
			RepoID: "acme/api", Content: packet(1024).Content, Producer: "4f1c2ab09d7e5a33", Epoch: 1, Sequence: 9,
		})
	}
	return frame
}

// pieces cuts a message as the HTTP/2 transport delivers it.
func pieces(b []byte) mem.BufferSlice {
	var out mem.BufferSlice
	for len(b) > 16<<10 {
		out, b = append(out, mem.SliceBuffer(b[:16<<10])), b[16<<10:]
	}
	return append(out, mem.SliceBuffer(b))
}

func BenchmarkUnmarshalFrame(b *testing.B) {
	data := pieces(benchFrame())
	c := codec.NewServer(codec.NewPool(), wire.DefaultLimits())
	b.ReportAllocs()
	for b.Loop() {
		frame := new(codec.PublishFrame)
		if err := c.Unmarshal(data, frame); err != nil {
			b.Fatal(err)
		}
		frame.Free()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchPackets, "ns/packet")
}

// BenchmarkPublishStream sends frames of 64 KiB one after the other over a
// connection in memory; both sides' work counts.
func BenchmarkPublishStream(b *testing.B) {
	n := &node{pool: codec.NewPool()}
	conn := start(b, n.pool, n)
	stream, err := conn.NewStream(b.Context(), &waystationv1.Waystation_ServiceDesc.Streams[0], waystationv1.Waystation_PublishStream_FullMethodName)
	if err != nil {
		b.Fatal(err)
	}
	frame := benchFrame()
	const ahead = 16 // frames in flight
	var answer codec.Raw
	sent, received := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		if err := stream.SendMsg(&codec.Raw{Bytes: frame}); err != nil {
			b.Fatal(err)
		}
		for sent++; sent-received >= ahead; received++ {
			if err := stream.RecvMsg(&answer); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchPackets, "ns/packet")
}
