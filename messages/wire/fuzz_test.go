package wire_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

func fullPacket() []byte {
	return wire.AppendPacket(nil, &wire.PacketFields{
		RepoID: "acme/api", Content: []byte("diff"), Metadata: map[string]string{"k": "v"}, PacketID: "id",
		Producer: "p", Epoch: 1, Sequence: 1, Priority: 1, Encoding: 1, Kind: "k",
		TimeToLive: 1e9, DeliverAfter: 1e6, Traceparent: "00", HasCRC: true,
	})
}

// FuzzParse: what protobuf accepts is accepted and read the same, what it refuses
// is refused.
func FuzzParse(f *testing.F) {
	f.Add(fullPacket())
	f.Add([]byte("\x0a\x04caf\xe9"))
	f.Add([]byte("\x4a\x02\x08\x01\x4a\x02\x10\x01"))         // a Duration in two pieces
	f.Add([]byte("\x0a\x80\x00\x8a\x80\x80\x80\x80\x00\x00")) // overlong varints
	f.Add([]byte("\xa3\x06\xa4\x06\x68\x01"))                 // a group; a CRC of another type
	f.Fuzz(func(t *testing.T, raw []byte) {
		want := &waystationv1.CodePacket{}
		wantErr := proto.Unmarshal(raw, want)
		var got wire.Packet
		gotErr := got.Parse(raw)
		if (wantErr == nil) != (gotErr == nil) {
			t.Fatalf("protobuf says %v, Parse says %v", wantErr, gotErr)
		}
		if gotErr == nil {
			checkSame(t, &got, want)
		}
		limits := wire.DefaultLimits()
		var refused *wire.FieldError
		if err := got.Validate(&limits); err != nil && !errors.As(err, &refused) {
			t.Fatalf("validate: %T", err)
		}
	})
}

func FuzzWalkFrame(f *testing.F) {
	packet := fullPacket()
	frame := append([]byte{0x0a, byte(len(packet))}, packet...)
	f.Add(append(frame, frame...))
	f.Add([]byte("\x0a\x03\x0a\x01\xff\x0a\x00"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		packets, err := wire.WalkFrame(frame, nil)
		for i := range packets {
			if packets[i].Bad != nil {
				err = packets[i].Bad
			}
		}
		want := &waystationv1.PublishStreamRequest{}
		wantErr := proto.Unmarshal(frame, want)
		if len(want.Packets) > wire.DefaultLimits().FramePackets {
			wantErr = errors.New("too many")
		}
		if (wantErr == nil) != (err == nil) {
			t.Fatalf("protobuf says %v, WalkFrame says %v", wantErr, err)
		}
		if err != nil {
			return
		}
		if len(packets) != len(want.Packets) {
			t.Fatalf("got %d packets, want %d", len(packets), len(want.Packets))
		}
		for i := range packets {
			checkSame(t, &packets[i], want.Packets[i])
		}
	})
}

// FuzzWalkResults: a response comes from a server that is trusted to write UTF-8,
// so only broken protobuf is refused; what protobuf reads is read the same.
func FuzzWalkResults(f *testing.F) {
	data := wire.AppendResult(nil, 3, &wire.ResultView{Repo: []byte("r"), ID: []byte("i"), Sequence: 9, Duplicate: true})
	f.Add(wire.AppendResult(data, 4, &wire.ResultView{Code: "GAP", Field: "position", Message: "m", Expected: 7}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var n int
		want := &waystationv1.PublishStreamResponse{}
		wantErr := proto.Unmarshal(data, want)
		err := wire.WalkResults(data, func(index uint64, r *wire.ResultView) bool {
			if wantErr == nil {
				checkResult(t, index, r, want.Results[n])
			}
			n++
			return true
		})
		if wantErr == nil && (err != nil || n != len(want.Results)) {
			t.Fatalf("got %d of %d results, %v", n, len(want.Results), err)
		}
	})
}

func checkResult(t *testing.T, index uint64, got *wire.ResultView, want *waystationv1.PublishResult) {
	t.Helper()
	receipt, refusal := want.GetReceipt(), want.GetError()
	if index != want.Index ||
		string(got.Repo) != receipt.GetRepoId() || string(got.ID) != receipt.GetPacketId() || got.Sequence != receipt.GetSequence() ||
		got.Duplicate != receipt.GetDuplicate() || got.ContentDiffers != receipt.GetContentDiffers() ||
		got.Code != refusal.GetCode() || got.Field != refusal.GetField() || got.Message != refusal.GetMessage() ||
		got.RetryAfterMs != refusal.GetRetryAfterMs() || got.Expected != refusal.GetExpectedSequence() {
		t.Fatalf("got %d %+v, want %v", index, got, want)
	}
}
