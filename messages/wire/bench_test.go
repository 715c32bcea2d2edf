package wire_test

import (
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

const benchPackets = 64

func benchFields() wire.PacketFields {
	content := make([]byte, 1024)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range content {
		content[i] = byte(r.Uint32())
	}
	return wire.PacketFields{
		RepoID: "acme/api-gateway", Content: content, Producer: "4f1c2ab09d7e5a33", Epoch: 1, Sequence: 123456,
		HasCRC: true, CRC: wire.ContentCRC(content),
	}
}

func benchFrame() []byte {
	fields := benchFields()
	var frame []byte
	for range benchPackets {
		frame = wire.AppendFramePacket(frame, &fields)
	}
	return frame
}

func perPacket(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchPackets, "ns/packet")
}

func BenchmarkWalkFrame(b *testing.B) {
	frame := benchFrame()
	var packets []wire.Packet
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if packets, err = wire.WalkFrame(frame, packets[:0]); err != nil {
			b.Fatal(err)
		}
	}
	perPacket(b)
}

func BenchmarkWalkFrameAndValidate(b *testing.B) {
	frame, limits := benchFrame(), wire.DefaultLimits()
	var packets []wire.Packet
	b.ReportAllocs()
	for b.Loop() {
		packets, _ = wire.WalkFrame(frame, packets[:0])
		for i := range packets {
			if err := packets[i].Validate(&limits); err != nil {
				b.Fatal(err)
			}
		}
	}
	perPacket(b)
}

func BenchmarkProtobufFrame(b *testing.B) {
	frame := benchFrame()
	b.ReportAllocs()
	for b.Loop() {
		if err := proto.Unmarshal(frame, &waystationv1.PublishStreamRequest{}); err != nil {
			b.Fatal(err)
		}
	}
	perPacket(b)
}

func BenchmarkAppendFramePacket(b *testing.B) {
	fields := benchFields()
	var frame []byte
	b.ReportAllocs()
	for b.Loop() {
		frame = frame[:0]
		for range benchPackets {
			frame = wire.AppendFramePacket(frame, &fields)
		}
	}
	perPacket(b)
}

func BenchmarkAppendResult(b *testing.B) {
	view := &wire.ResultView{Repo: []byte("acme/api-gateway"), Sequence: 123456}
	var response []byte
	b.ReportAllocs()
	for b.Loop() {
		response = response[:0]
		for i := range uint64(benchPackets) {
			response = wire.AppendResult(response, 1_000_000+i, view)
		}
	}
	perPacket(b)
}

func BenchmarkWalkResults(b *testing.B) {
	var response []byte
	for i := range uint64(benchPackets) {
		response = wire.AppendResult(response, 1_000_000+i, &wire.ResultView{Repo: []byte("acme/api-gateway"), Sequence: 123456})
	}
	var sum uint64
	b.ReportAllocs()
	for b.Loop() {
		err := wire.WalkResults(response, func(index uint64, r *wire.ResultView) bool {
			sum += index + r.Sequence
			return true
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	perPacket(b)
}

func BenchmarkAppendDelivery(b *testing.B) {
	fields := benchFields()
	view := &wire.DeliveryView{
		Packet: wire.AppendPacket(nil, &fields), Sequence: 123456, LeaseToken: 987654, Attempt: 1, LeaseMs: 30000,
		LeaseExpiresMs: 1_700_000_000_123, AcceptedMs: 1_700_000_000_123,
	}
	var response []byte
	b.ReportAllocs()
	for b.Loop() {
		response = response[:0]
		for range benchPackets {
			response = wire.AppendDelivery(response, view)
		}
	}
	perPacket(b)
}
