package wire_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// randomPacket fills each field or leaves it out, by r.
func randomPacket(r *rand.Rand) *waystationv1.CodePacket {
	p := &waystationv1.CodePacket{}
	fill := func(set func()) {
		if r.IntN(3) > 0 {
			set()
		}
	}
	text := func() string { return strings.Repeat("ä", r.IntN(80)) + "z" }
	fill(func() { p.RepoId = text() })
	fill(func() { p.Content = []byte(text()) })
	fill(func() {
		p.Metadata = map[string]string{}
		for range r.IntN(5) {
			p.Metadata[text()] = text()
		}
	})
	fill(func() { p.PacketId = text() })
	fill(func() {
		p.Position = &waystationv1.Position{Producer: text(), Epoch: r.Uint64(), Sequence: r.Uint64N(3)}
	})
	fill(func() { p.Priority = waystationv1.Priority(r.IntN(7) - 2) })
	fill(func() { p.ContentEncoding = waystationv1.ContentEncoding(r.Int32()) })
	fill(func() { p.Kind = text() })
	fill(func() { p.TimeToLive = durationpb.New(time.Duration(r.Int64N(1e15) - 5e14)) })
	fill(func() { p.DeliverAfter = durationpb.New(time.Duration(r.Int64N(3) - 1)) })
	fill(func() { p.CreatedAt = &timestamppb.Timestamp{Seconds: r.Int64N(1e10) - 5e9, Nanos: r.Int32N(1e9)} })
	fill(func() { p.Traceparent = text() })
	fill(func() { p.ContentCrc32C = proto.Uint32(r.Uint32()) })
	return p
}

func enum(v int32) uint8 {
	if v < 0 || v > 254 {
		return 255
	}
	return uint8(v)
}

// checkSame compares a view with what generated code read from the same bytes.
func checkSame(t *testing.T, got *wire.Packet, want *waystationv1.CodePacket) {
	t.Helper()
	str := func(field string, got []byte, want string) {
		t.Helper()
		if string(got) != want {
			t.Errorf("%s: got %q, want %q", field, got, want)
		}
	}
	num := func(field string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %v, want %v", field, got, want)
		}
	}
	str("repo_id", got.Repo, want.GetRepoId())
	str("content", got.Content, string(want.GetContent()))
	str("packet_id", got.ID, want.GetPacketId())
	str("kind", got.Kind, want.GetKind())
	str("traceparent", got.Traceparent, want.GetTraceparent())
	str("producer", got.Producer, want.GetPosition().GetProducer())
	num("position", got.HasPosition, want.GetPosition() != nil)
	num("epoch", got.Epoch, want.GetPosition().GetEpoch())
	num("sequence", got.Sequence, want.GetPosition().GetSequence())
	num("priority", got.Priority, enum(int32(want.GetPriority())))
	num("content_encoding", got.Encoding, enum(int32(want.GetContentEncoding())))
	num("has crc", got.HasCRC, want.ContentCrc32C != nil)
	num("crc", got.CRC, want.GetContentCrc32C())
	checkDuration(t, "time_to_live", got.TTLMs, want.GetTimeToLive())
	checkDuration(t, "deliver_after", got.DeliverAfterMs, want.GetDeliverAfter())
	checkTimestamp(t, got.CreatedAtMs, want.GetCreatedAt())
	checkMetadata(t, got, want.GetMetadata())
}

func checkDuration(t *testing.T, field string, got int64, want *durationpb.Duration) {
	t.Helper()
	d := want.AsDuration()
	switch {
	case want == nil:
		if got != 0 {
			t.Errorf("%s: got %d, want none", field, got)
		}
	case want.CheckValid() != nil:
		// Out of protobuf's own range, or malformed: it must not look acceptable.
		if got >= 0 && got <= wire.MaxDurationMs {
			t.Errorf("%s: got %d for %v, which is not valid", field, got, want)
		}
	case d == math.MaxInt64 || d == math.MinInt64: // saturated
		if got >= -wire.MaxDurationMs && got <= wire.MaxDurationMs {
			t.Errorf("%s: got %d for %v", field, got, want)
		}
	default:
		ms := int64(d / time.Millisecond)
		if rest := d % time.Millisecond; rest > 0 {
			ms++
		} else if rest < 0 {
			ms--
		}
		if got != ms {
			t.Errorf("%s: got %d, want %d of %v", field, got, ms, want)
		}
	}
}

func checkTimestamp(t *testing.T, got int64, want *timestamppb.Timestamp) {
	t.Helper()
	switch {
	case want == nil:
		if got != 0 {
			t.Errorf("created_at: got %d, want none", got)
		}
	case want.CheckValid() != nil:
		if got >= 0 && got < 253402300800000 {
			t.Errorf("created_at: got %d for %v, which is not valid", got, want)
		}
	case got != want.AsTime().UnixMilli():
		t.Errorf("created_at: got %d, want %d of %v", got, want.AsTime().UnixMilli(), want)
	}
}

func checkMetadata(t *testing.T, got *wire.Packet, want map[string]string) {
	t.Helper()
	pairs, size := map[string]string{}, 0
	count := 0
	got.EachMetadata(func(k, v []byte) bool {
		pairs[string(k)] = string(v)
		size += len(k) + len(v)
		count++
		return true
	})
	if count != got.MetadataPairs || size != got.MetadataBytes {
		t.Errorf("metadata: visited %d pairs of %d bytes, counted %d of %d", count, size, got.MetadataPairs, got.MetadataBytes)
	}
	if len(pairs) != len(want) {
		t.Errorf("metadata: got %v, want %v", pairs, want)
	}
	for k, v := range want {
		if pairs[k] != v {
			t.Errorf("metadata %q: got %q, want %q", k, pairs[k], v)
		}
	}
}

func TestParseReadsWhatProtobufWrites(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var p wire.Packet // one for all: Parse must leave nothing of the last packet
	for range 2000 {
		want := randomPacket(r)
		raw, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Parse(raw); err != nil {
			t.Fatalf("%v: %v", want, err)
		}
		checkSame(t, &p, want)
		if t.Failed() {
			t.Fatalf("of %v", want)
		}
	}
}

// TestParseMergesAsProtobufDoes relies on that two messages written one after
// the other are their merger: the last scalar wins, nested messages mix.
func TestParseMergesAsProtobufDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var raw []byte
		for range 2 + r.IntN(2) {
			part, err := proto.Marshal(randomPacket(r))
			if err != nil {
				t.Fatal(err)
			}
			raw = append(raw, part...)
		}
		want := &waystationv1.CodePacket{}
		if err := proto.Unmarshal(raw, want); err != nil {
			t.Fatal(err)
		}
		var p wire.Packet
		if err := p.Parse(raw); err != nil {
			t.Fatal(err)
		}
		checkSame(t, &p, want)
		if t.Failed() {
			t.Fatalf("of %x", raw)
		}
	}
}

func TestProtobufReadsWhatAppendPacketWrites(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		want := randomPacket(r)
		want.Priority, want.ContentEncoding = waystationv1.Priority(r.IntN(3)), waystationv1.ContentEncoding(r.IntN(3))
		fields := wire.PacketFields{
			RepoID: want.RepoId, Content: want.Content, Metadata: want.Metadata, PacketID: want.PacketId,
			Producer: want.Position.GetProducer(), Epoch: want.Position.GetEpoch(), Sequence: want.Position.GetSequence(),
			Priority: uint8(want.Priority), Encoding: uint8(want.ContentEncoding), Kind: want.Kind,
			TimeToLive: want.TimeToLive.AsDuration(), DeliverAfter: want.DeliverAfter.AsDuration(),
			Traceparent: want.Traceparent, HasCRC: want.ContentCrc32C != nil, CRC: want.GetContentCrc32C(),
		}
		if want.CreatedAt != nil {
			fields.CreatedAt = want.CreatedAt.AsTime()
		}
		if want.TimeToLive.AsDuration() == 0 {
			want.TimeToLive = nil
		}
		if want.DeliverAfter.AsDuration() == 0 {
			want.DeliverAfter = nil
		}
		raw := wire.AppendPacket(nil, &fields)
		if len(raw) != wire.SizePacket(&fields) {
			t.Fatalf("size: got %d, want %d", wire.SizePacket(&fields), len(raw))
		}
		got := &waystationv1.CodePacket{}
		if err := proto.Unmarshal(raw, got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, want) {
			t.Fatalf("got %v\nwant %v", got, want)
		}
		frame := &waystationv1.PublishStreamRequest{}
		if err := proto.Unmarshal(wire.AppendFramePacket(wire.AppendFramePacket(nil, &fields), &fields), frame); err != nil {
			t.Fatal(err)
		}
		if len(frame.Packets) != 2 || !proto.Equal(frame.Packets[1], want) {
			t.Fatalf("frame: got %v", frame)
		}
	}
}
