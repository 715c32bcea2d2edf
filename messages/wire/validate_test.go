package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

func good() *waystationv1.CodePacket {
	return &waystationv1.CodePacket{RepoId: "acme/api", Content: []byte("diff")}
}

func pairs(n, size int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprintf("%04d", i)] = strings.Repeat("v", size-4)
	}
	return m
}

func TestValidate(t *testing.T) {
	type packet = waystationv1.CodePacket
	day := int64(24 * 3600)
	for _, tc := range []struct {
		name   string
		change func(p *packet)
		want   string // "": accepted; else the error's beginning
	}{
		{"nothing but a repository", func(p *packet) { p.Content = nil }, ""},
		{"empty repository", func(p *packet) { p.RepoId = "" }, "repo_id: is empty"},
		{"longest repository", func(p *packet) { p.RepoId = strings.Repeat("r", 512) }, ""},
		{"long repository", func(p *packet) { p.RepoId = strings.Repeat("r", 513) }, "repo_id: has 513 bytes, at most 512"},
		{"longest content", func(p *packet) { p.Content = make([]byte, 8<<20) }, ""},
		{"long content", func(p *packet) { p.Content = make([]byte, 8<<20+1) }, "content: has 8388609 bytes, at most 8388608"},
		{"most pairs", func(p *packet) { p.Metadata = pairs(64, 10) }, ""},
		{"many pairs", func(p *packet) { p.Metadata = pairs(65, 10) }, "metadata: has 65 pairs, at most 64"},
		{"most metadata", func(p *packet) { p.Metadata = pairs(1, 16<<10) }, ""},
		{"much metadata", func(p *packet) { p.Metadata = pairs(2, 8<<10+1) }, "metadata: has 16386 bytes, at most 16384"},
		{"longest id", func(p *packet) { p.PacketId = strings.Repeat("i", 256) }, ""},
		{"long id", func(p *packet) { p.PacketId = strings.Repeat("i", 257) }, "packet_id: has 257 bytes, at most 256"},
		{"longest kind", func(p *packet) { p.Kind = strings.Repeat("k", 64) }, ""},
		{"long kind", func(p *packet) { p.Kind = strings.Repeat("k", 65) }, "kind: has 65 bytes, at most 64"},
		{"longest traceparent", func(p *packet) { p.Traceparent = strings.Repeat("0", 128) }, ""},
		{"long traceparent", func(p *packet) { p.Traceparent = strings.Repeat("0", 129) }, "traceparent: has 129 bytes, at most 128"},

		{"position", func(p *packet) { p.Position = position(strings.Repeat("p", 128), 1, 1) }, ""},
		{"empty position", func(p *packet) { p.Position = &waystationv1.Position{} }, "position.producer: is empty"},
		{"long producer", func(p *packet) { p.Position = position(strings.Repeat("p", 129), 1, 1) }, "position.producer: has 129 bytes, at most 128"},
		{"epoch 0", func(p *packet) { p.Position = position("p", 0, 1) }, "position.epoch: is 0"},
		{"sequence 0", func(p *packet) { p.Position = position("p", 1, 0) }, "position.sequence: is 0"},

		{"known enums", func(p *packet) { p.Priority, p.ContentEncoding = 2, 2 }, ""},
		{"priority 3", func(p *packet) { p.Priority = 3 }, "priority: is unknown"},
		{"priority -1", func(p *packet) { p.Priority = -1 }, "priority: is unknown"},
		{"priority 256", func(p *packet) { p.Priority = 256 }, "priority: is unknown"},
		{"encoding 3", func(p *packet) { p.ContentEncoding = 3 }, "content_encoding: is unknown"},
		{"encoding 2^31-1", func(p *packet) { p.ContentEncoding = math.MaxInt32 }, "content_encoding: is unknown"},

		{"ten years", func(p *packet) { p.TimeToLive = span(3650*day, 0) }, ""},
		{"ten years and a nanosecond", func(p *packet) { p.TimeToLive = span(3650*day, 1) }, "time_to_live: is longer than ten years"},
		{"endless", func(p *packet) { p.TimeToLive = span(math.MaxInt64, 999_999_999) }, "time_to_live: is longer than ten years"},
		{"negative", func(p *packet) { p.TimeToLive = span(-1, 0) }, "time_to_live: is negative"},
		{"a nanosecond below 0", func(p *packet) { p.TimeToLive = span(0, -1) }, "time_to_live: is negative"},
		{"endlessly negative", func(p *packet) { p.TimeToLive = span(math.MinInt64, 0) }, "time_to_live: is negative"},
		{"too many nanos", func(p *packet) { p.TimeToLive = span(1, 1e9) }, "time_to_live: has nanos outside"},
		{"mixed signs", func(p *packet) { p.TimeToLive = span(1, -1) }, "time_to_live: has nanos outside"},
		{"mixed signs, the other way", func(p *packet) { p.TimeToLive = span(-1, 1) }, "time_to_live: has nanos outside"},
		{"negative delay", func(p *packet) { p.DeliverAfter = span(0, -1e6) }, "deliver_after: is negative"},
		{"long delay", func(p *packet) { p.DeliverAfter = span(3650*day+1, 0) }, "deliver_after: is longer than ten years"},
		{"delay without time to live", func(p *packet) { p.DeliverAfter = span(60, 0) }, ""},
		{"delay within time to live", func(p *packet) { p.DeliverAfter, p.TimeToLive = span(59, 0), span(60, 0) }, ""},
		{"delay as long as time to live", func(p *packet) { p.DeliverAfter, p.TimeToLive = span(60, 0), span(60, 0) }, "deliver_after: is 60000 ms, not shorter"},
		{"delay longer than time to live", func(p *packet) { p.DeliverAfter, p.TimeToLive = span(61, 0), span(60, 0) }, "deliver_after: is 61000 ms, not shorter"},

		{"created", func(p *packet) { p.CreatedAt = &timestamppb.Timestamp{Seconds: 1_700_000_000} }, ""},
		{"created at the end of 9999", func(p *packet) { p.CreatedAt = &timestamppb.Timestamp{Seconds: 253402300799, Nanos: 999_999_999} }, ""},
		{"created in 10000", func(p *packet) { p.CreatedAt = &timestamppb.Timestamp{Seconds: 253402300800} }, "created_at: is outside the years"},
		{"created in 1969", func(p *packet) { p.CreatedAt = &timestamppb.Timestamp{Seconds: -1, Nanos: 999_999_999} }, "created_at: is outside the years"},
		{"created never", func(p *packet) { p.CreatedAt = &timestamppb.Timestamp{Seconds: math.MinInt64} }, "created_at: is outside the years"},
		{"created with negative nanos", func(p *packet) { p.CreatedAt = &timestamppb.Timestamp{Seconds: 1, Nanos: -1} }, "created_at: has nanos outside"},

		{"right crc", func(p *packet) { p.ContentCrc32C = proto.Uint32(wire.ContentCRC(p.Content)) }, ""},
		{"wrong crc", func(p *packet) { p.ContentCrc32C = proto.Uint32(1) }, "content_crc32c: is 0x00000001, the content's is 0x"},
		{"crc 0 of something", func(p *packet) { p.ContentCrc32C = proto.Uint32(0) }, "content_crc32c: is 0x00000000, the content's is 0x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			message := good()
			tc.change(message)
			raw, err := proto.Marshal(message)
			if err != nil {
				t.Fatal(err)
			}
			var p wire.Packet
			if err := p.Parse(raw); err != nil {
				t.Fatal(err)
			}
			checkValidate(t, &p, tc.want)
		})
	}
}

func position(producer string, epoch, sequence uint64) *waystationv1.Position {
	return &waystationv1.Position{Producer: producer, Epoch: epoch, Sequence: sequence}
}

func span(s int64, nanos int32) *durationpb.Duration {
	return &durationpb.Duration{Seconds: s, Nanos: nanos}
}

func checkValidate(t *testing.T, p *wire.Packet, want string) {
	t.Helper()
	limits := wire.DefaultLimits()
	err := p.Validate(&limits)
	if want == "" {
		if err != nil {
			t.Fatal(err)
		}
		if p.CRC != wire.ContentCRC(p.Content) {
			t.Fatalf("crc: got %x", p.CRC)
		}
		return
	}
	var field *wire.FieldError
	if !errors.As(err, &field) || !strings.HasPrefix(err.Error(), want) {
		t.Fatalf("got %v, want %q", err, want)
	}
}

// TestOverhead: what is kept with a packet is bounded, known or not.
func TestOverhead(t *testing.T) {
	raw, err := proto.Marshal(good())
	if err != nil {
		t.Fatal(err)
	}
	room := wire.DefaultLimits().Overhead - len(raw) + len(good().Content)
	unknown := func(n int) []byte { // n bytes of field 100
		return append([]byte{0xa2, 0x06, byte((n-5)&0x7f | 0x80), byte((n-5)>>7&0x7f | 0x80), byte((n - 5) >> 14)}, make([]byte, n-5)...)
	}
	for _, tc := range []struct {
		extra []byte
		want  string
	}{
		{unknown(room), ""},
		{unknown(room + 1), "packet: has 65537 bytes beside its content"},
		{bytes.Repeat([]byte{0x12, 0}, 8<<20), "packet: has 16777"}, // content again and again
	} {
		var p wire.Packet
		if err := p.Parse(append(raw[:len(raw):len(raw)], tc.extra...)); err != nil {
			t.Fatal(err)
		}
		checkValidate(t, &p, tc.want)
	}
}

func TestParseRefuses(t *testing.T) {
	field := func(number byte, value string) string { return string([]byte{number<<3 | 2, byte(len(value))}) + value }
	const bad = "caf\xe9"
	for _, tc := range []struct{ name, raw, want string }{
		{"repo id", field(1, bad), "repo_id: is not valid UTF-8"},
		{"overwritten repo id", field(1, bad) + field(1, "r"), "repo_id: is not valid UTF-8"},
		{"surrogate", field(1, "\xed\xa0\x80"), "repo_id: is not valid UTF-8"},
		{"overlong", field(1, "\xc0\xaf"), "repo_id: is not valid UTF-8"},
		{"metadata key", field(3, field(1, bad)), "metadata: is not valid UTF-8"},
		{"metadata value", field(3, field(1, "k")+field(2, bad)), "metadata: is not valid UTF-8"},
		{"broken metadata", field(3, "\x0a\x05k"), "metadata: is not a valid protobuf message"},
		{"packet id", field(4, bad), "packet_id: is not valid UTF-8"},
		{"producer", field(5, field(1, bad)), "position.producer: is not valid UTF-8"},
		{"broken position", field(5, "\x10"), "position: is not a valid protobuf message"},
		{"kind", field(8, bad), "kind: is not valid UTF-8"},
		{"traceparent", field(12, bad), "traceparent: is not valid UTF-8"},
		{"broken time to live", field(9, "\x08\xff"), "time_to_live: is not a valid protobuf message"},
		{"broken delay", field(10, "\x0f"), "deliver_after: is not a valid protobuf message"},
		{"broken creation", field(11, "\x08"), "created_at: is not a valid protobuf message"},
		{"length beyond the end", "\x0a\x05abc", "packet: is not a valid protobuf message"},
		{"half a key", "\x80", "packet: is not a valid protobuf message"},
		{"field 0", "\x02\x00", "packet: is not a valid protobuf message"},
		{"wire type 7", "\x0f", "packet: is not a valid protobuf message"},
		{"end of no group", "\x0c", "packet: is not a valid protobuf message"},
		{"group without end", "\xa3\x06\x08\x01", "packet: is not a valid protobuf message"},
		{"varint of eleven bytes", "\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "packet: is not a valid protobuf message"},
		{"short fixed32", "\x6d\x01\x02", "packet: is not a valid protobuf message"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var p wire.Packet
			err := p.Parse([]byte(tc.raw))
			var refused *wire.FieldError
			if !errors.As(err, &refused) || err.Error() != tc.want {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			checkValidate(t, &p, tc.want)
			if proto.Unmarshal([]byte(tc.raw), &waystationv1.CodePacket{}) == nil {
				t.Error("protobuf accepts it")
			}
		})
	}
}

func TestEachMetadataStops(t *testing.T) {
	var p wire.Packet
	if err := p.Parse(wire.AppendPacket(nil, &wire.PacketFields{Metadata: pairs(3, 5)})); err != nil {
		t.Fatal(err)
	}
	n := 0
	p.EachMetadata(func(_, _ []byte) bool { n++; return n < 2 })
	if n != 2 {
		t.Fatalf("visited %d", n)
	}
}

func TestLimits(t *testing.T) {
	l := wire.DefaultLimits()
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
	if got := l.MessageBytes(); got < 8<<20+64<<10 || got > 9<<20 {
		t.Errorf("message bytes: %d", got)
	}
	l.Content, l.Kind = 0, -1
	err := l.Validate()
	if err == nil || !strings.Contains(err.Error(), "content limit is 0") || !strings.Contains(err.Error(), "kind limit is -1") {
		t.Errorf("got %v", err)
	}
}
