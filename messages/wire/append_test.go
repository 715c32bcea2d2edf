package wire_test

import (
	"encoding/hex"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// numbers are where varints change their length, and the ends.
var numbers = []uint64{0, 1, 127, 128, 16383, 16384, math.MaxUint32, math.MaxInt64, math.MaxUint64}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

func stamp(ms int64) *timestamppb.Timestamp {
	if ms == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMilli(ms))
}

var times = []int64{0, 1, 999, 1000, 1_700_000_000_123, -1, -1000, -1001}

func randomResult(r *rand.Rand) (*wire.ResultView, *waystationv1.PublishResult) {
	index := pick(r, numbers)
	if r.IntN(2) == 0 {
		view := &wire.ResultView{
			Repo: []byte(pick(r, []string{"", "acme/api", string(make([]byte, 200))})), ID: []byte(pick(r, []string{"", "id"})),
			Sequence: pick(r, numbers), Duplicate: r.IntN(2) == 0, ContentDiffers: r.IntN(2) == 0,
		}
		return view, &waystationv1.PublishResult{Index: index, Receipt: &waystationv1.Receipt{
			RepoId: string(view.Repo), PacketId: string(view.ID), Sequence: view.Sequence,
			Duplicate: view.Duplicate, ContentDiffers: view.ContentDiffers,
		}}
	}
	view := &wire.ResultView{
		Code: "GAP", Field: pick(r, []string{"", "position"}), Message: pick(r, []string{"", "expected 7"}),
		RetryAfterMs: int64(pick(r, numbers)), Expected: pick(r, numbers),
	}
	return view, &waystationv1.PublishResult{Index: index, Error: &waystationv1.Error{
		Code: view.Code, Field: view.Field, Message: view.Message,
		RetryAfterMs: view.RetryAfterMs, ExpectedSequence: view.Expected,
	}}
}

func TestResultsBothWays(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 500 {
		var data []byte
		var views []*wire.ResultView
		want := &waystationv1.PublishStreamResponse{}
		for range r.IntN(4) {
			view, result := randomResult(r)
			data = wire.AppendResult(data, result.Index, view)
			views, want.Results = append(views, view), append(want.Results, result)
		}
		got := &waystationv1.PublishStreamResponse{}
		if err := proto.Unmarshal(data, got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, want) {
			t.Fatalf("got %v\nwant %v", got, want)
		}
		checkWalked(t, data, want, views)
		again, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		checkWalked(t, again, want, views)
	}
}

func checkWalked(t *testing.T, data []byte, want *waystationv1.PublishStreamResponse, views []*wire.ResultView) {
	t.Helper()
	n := 0
	err := wire.WalkResults(data, func(index uint64, got *wire.ResultView) bool {
		view := views[n]
		if index != want.Results[n].Index || string(got.Repo) != string(view.Repo) || string(got.ID) != string(view.ID) ||
			got.Sequence != view.Sequence || got.Duplicate != view.Duplicate || got.ContentDiffers != view.ContentDiffers ||
			got.Code != view.Code || got.Field != view.Field || got.Message != view.Message ||
			got.RetryAfterMs != view.RetryAfterMs || got.Expected != view.Expected {
			t.Errorf("result %d: got %d %+v, want %v", n, index, got, want.Results[n])
		}
		n++
		return true
	})
	if err != nil || n != len(views) {
		t.Fatalf("walked %d of %d: %v", n, len(views), err)
	}
}

func TestWalkResultsStops(t *testing.T) {
	data := wire.AppendResult(nil, 0, &wire.ResultView{Sequence: 1})
	data = wire.AppendResult(data, 1, &wire.ResultView{Sequence: 2})
	n := 0
	if err := wire.WalkResults(data, func(uint64, *wire.ResultView) bool { n++; return false }); err != nil || n != 1 {
		t.Fatalf("visited %d: %v", n, err)
	}
	for _, cut := range []int{1, 3, len(data) - 1} {
		if err := wire.WalkResults(data[:cut], func(uint64, *wire.ResultView) bool { return true }); err == nil {
			t.Errorf("cut at %d: no error", cut)
		}
	}
	if err := wire.WalkResults([]byte{0x0a, 3, 0x12, 1, 0xff}, func(uint64, *wire.ResultView) bool { return true }); err == nil {
		t.Error("broken receipt: no error")
	}
}

func TestAppendResultMendsText(t *testing.T) {
	got := &waystationv1.PublishStreamResponse{}
	data := wire.AppendResult(nil, 0, &wire.ResultView{Code: "INTERNAL", Field: "f\xff", Message: "m\xffm"})
	if err := proto.Unmarshal(data, got); err != nil {
		t.Fatal(err)
	}
	if e := got.Results[0].Error; e.Field != "f\uFFFD" || e.Message != "m\uFFFDm" {
		t.Fatalf("got %v", e)
	}
}

func TestProtobufReadsWhatAppendDeliveryWrites(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 500 {
		packet := randomPacket(r)
		raw, err := proto.Marshal(packet)
		if err != nil {
			t.Fatal(err)
		}
		view := &wire.DeliveryView{
			Packet: raw, Sequence: pick(r, numbers), LeaseToken: pick(r, numbers), Attempt: uint32(pick(r, numbers)),
			LeaseMs: uint32(pick(r, numbers)), LeaseExpiresMs: pick(r, times), AcceptedMs: pick(r, times),
			Redelivered: r.IntN(2) == 0, AddCRC: r.IntN(2) == 0, CRC: 0xdeadbeef,
		}
		if view.AddCRC && packet.ContentCrc32C == nil {
			packet.ContentCrc32C = proto.Uint32(0xdeadbeef)
		}
		want := &waystationv1.WorkResponse{Deliveries: []*waystationv1.Delivery{{
			Packet: packet, Sequence: view.Sequence, LeaseToken: view.LeaseToken, Attempt: view.Attempt, LeaseMs: view.LeaseMs,
			LeaseExpiresAt: stamp(view.LeaseExpiresMs), AcceptedAt: stamp(view.AcceptedMs), Redelivered: view.Redelivered,
		}}}
		want.Deliveries = append(want.Deliveries, want.Deliveries[0])
		got := &waystationv1.WorkResponse{}
		if err := proto.Unmarshal(wire.AppendDelivery(wire.AppendDelivery(nil, view), view), got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, want) {
			t.Fatalf("got %v\nwant %v", got, want)
		}
	}
}

func TestProtobufReadsWhatAppendStoredPacketWrites(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 500 {
		packet := randomPacket(r)
		raw, err := proto.Marshal(packet)
		if err != nil {
			t.Fatal(err)
		}
		view := &wire.StoredView{
			Packet: raw, Sequence: pick(r, numbers), AcceptedMs: pick(r, times), AddCRC: r.IntN(2) == 0, CRC: 7,
		}
		if view.AddCRC && packet.ContentCrc32C == nil {
			packet.ContentCrc32C = proto.Uint32(7)
		}
		stored := &waystationv1.StoredPacket{Packet: packet, Sequence: view.Sequence, AcceptedAt: stamp(view.AcceptedMs)}
		// Other fields of the response are written around it by generated code.
		data, err := proto.Marshal(&waystationv1.LookupPacketResponse{Sequence: 9})
		if err != nil {
			t.Fatal(err)
		}
		data = wire.AppendStoredPacket(data, view)
		lookup := &waystationv1.LookupPacketResponse{}
		if err := proto.Unmarshal(data, lookup); err != nil {
			t.Fatal(err)
		}
		if want := (&waystationv1.LookupPacketResponse{Sequence: 9, Packet: stored}); !proto.Equal(lookup, want) {
			t.Fatalf("got %v\nwant %v", lookup, want)
		}
		read := &waystationv1.ReadPacketsResponse{}
		if err := proto.Unmarshal(wire.AppendStoredPacket(nil, view), read); err != nil {
			t.Fatal(err)
		}
		if len(read.Packets) != 1 || !proto.Equal(read.Packets[0], stored) {
			t.Fatalf("got %v\nwant %v", read, stored)
		}
	}
}

// TestGoldenBytes: packets are kept as they are written here; old ones must stay
// readable, and resends equal.
func TestGoldenBytes(t *testing.T) {
	packet := wire.AppendPacket(nil, &wire.PacketFields{
		RepoID: "acme/api", Content: []byte("diff"), Metadata: map[string]string{"b": "2", "a": "1"}, PacketID: "id-1",
		Producer: "p", Epoch: 3, Sequence: 300, Priority: 1, Encoding: 2, Kind: "review",
		TimeToLive: 90*time.Second + time.Millisecond, DeliverAfter: time.Second, CreatedAt: time.Unix(1_700_000_000, 5),
		Traceparent: "00-01", HasCRC: true, CRC: 0x01020304,
	})
	result := &wire.ResultView{Repo: []byte("acme/api"), ID: []byte("id-1"), Sequence: 300, Duplicate: true}
	refusal := &wire.ResultView{Code: "GAP", Field: "position", Message: "m", RetryAfterMs: 5, Expected: 7}
	delivery := &wire.DeliveryView{
		Packet: []byte{0x0a, 1, 'r'}, Sequence: 2, LeaseToken: 9, Attempt: 1, LeaseMs: 30000,
		LeaseExpiresMs: 1500, AcceptedMs: 1000, Redelivered: true, AddCRC: true, CRC: 1,
	}
	for _, tc := range []struct {
		name, want string
		got        []byte
	}{
		{"packet", "0a0861636d652f61706912046469666" + "61a060a016112013" + "11a060a0162120132220469642d312a080a017010031" +
			"8ac0230013802420672657669657" + "74a06085a10c0843d52020801" + "5a080880e2cfaa061005" + "620530302d30316d04030201", packet},
		{"receipt", "0a1a08ac0212150a0861636d652f617069120469642d3118ac022001", wire.AppendResult(nil, 300, result)},
		{"error", "0a181a160a034741501208706f736974696f6e1a016d20052807", wire.AppendResult(nil, 0, refusal)},
		{"delivery", "0a24100218012009" + "28b0ea013208080110" + "80cab5ee0138014202" + "08010a086d01000000" + "0a0172", wire.AppendDelivery(nil, delivery)},
	} {
		if got := hex.EncodeToString(tc.got); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, tc.want)
		}
	}
}
