package wire_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

func frameOf(t testing.TB, packets ...*waystationv1.CodePacket) []byte {
	t.Helper()
	frame, err := proto.Marshal(&waystationv1.PublishStreamRequest{Packets: packets})
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func TestWalkFrame(t *testing.T) {
	a, b := good(), good()
	b.RepoId, b.Position = "other", position("p", 1, 9)
	frame := append([]byte{0xf8, 0x07, 0x01}, frameOf(t, a, b)...) // an unknown field first
	before := []wire.Packet{{Sequence: 42}}
	packets, err := wire.WalkFrame(frame, before)
	if err != nil || len(packets) != 3 {
		t.Fatalf("got %d packets, %v", len(packets), err)
	}
	if packets[0].Sequence != 42 {
		t.Error("what was there before is gone")
	}
	checkSame(t, &packets[1], a)
	checkSame(t, &packets[2], b)
	if i := bytes.Index(frame, []byte("other")); &packets[2].Repo[0] != &frame[i] {
		t.Error("the view does not alias the frame")
	}
	for _, empty := range [][]byte{nil, {0xf8, 0x07, 0x01}} {
		if packets, err := wire.WalkFrame(empty, nil); err != nil || len(packets) != 0 {
			t.Errorf("%x: got %d packets, %v", empty, len(packets), err)
		}
	}
}

func TestWalkFrameClearsReusedViews(t *testing.T) {
	full := good()
	full.Position, full.Metadata, full.Kind = position("p", 1, 1), pairs(2, 9), "k"
	packets, err := wire.WalkFrame(frameOf(t, full, full), nil)
	if err != nil {
		t.Fatal(err)
	}
	packets, err = wire.WalkFrame(frameOf(t, &waystationv1.CodePacket{RepoId: "r"}), packets[:0])
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, &packets[0], &waystationv1.CodePacket{RepoId: "r"})
}

func TestWalkFrameKeepsTheGoodPackets(t *testing.T) {
	frame := frameOf(t, good())
	frame = append(frame, "\x0a\x03\x0a\x01\xff"...) // repo_id is not UTF-8
	frame = append(frame, "\x0a\x02\x0a\x05"...)     // the length is beyond the end
	frame = append(frame, frameOf(t, good())...)
	packets, err := wire.WalkFrame(frame, nil)
	if err != nil || len(packets) != 4 {
		t.Fatalf("got %d packets, %v", len(packets), err)
	}
	for i, want := range []string{"", "repo_id: is not valid UTF-8", "packet: is not a valid protobuf message", ""} {
		checkValidate(t, &packets[i], want)
	}
}

func TestWalkFrameRefuses(t *testing.T) {
	limits := wire.DefaultLimits()
	many := make([]*waystationv1.CodePacket, limits.FramePackets)
	for i := range many {
		many[i] = good()
	}
	big := func(size int) *waystationv1.CodePacket {
		return &waystationv1.CodePacket{RepoId: "r", Content: make([]byte, size)}
	}
	before := make([]wire.Packet, 1, 8)
	for _, tc := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"as many as allowed", frameOf(t, many...), ""},
		{"one more", frameOf(t, append(many[:len(many):len(many)], good())...), "packets: has more than 1024 packets"},
		{"millions of nothing", bytes.Repeat([]byte{0x0a, 0}, 2<<20), "packets: has more than 1024 packets"},
		{"one packet larger than a frame", frameOf(t, big(8<<20)), ""},
		{"two packets larger than a frame", frameOf(t, big(4<<20), good()), "packets: has 41943"},
		{"cut off", frameOf(t, good(), good())[:20], "packets: is not a valid protobuf message"},
		{"garbage", []byte("GET / HTTP/1.1\r\n\r\n"), "packets: is not a valid protobuf message"},
	} {
		packets, err := limits.WalkFrame(tc.frame, before)
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		var refused *wire.FieldError
		if !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
		if len(packets) != 1 {
			t.Errorf("%s: got %d packets beside the error", tc.name, len(packets))
		}
	}
}
