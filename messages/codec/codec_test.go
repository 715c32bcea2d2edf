package codec_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

func invalid(err error) error { return status.Error(codes.InvalidArgument, err.Error()) }

func checked() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.UnaryInterceptor(codec.UnaryInterceptor(invalid)),
		grpc.StreamInterceptor(codec.StreamInterceptor(invalid)),
	}
}

// node answers as the real one does, from the bytes of the frame alone.
type node struct {
	waystationv1.UnimplementedWaystationServer
	pool    *codec.Pool
	calls   atomic.Int64
	release atomic.Int64
}

func (n *node) PublishStream(stream grpc.BidiStreamingServer[waystationv1.PublishStreamRequest, waystationv1.PublishStreamResponse]) error {
	var index uint64
	for {
		frame := new(codec.PublishFrame)
		if err := stream.RecvMsg(frame); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		out := make([]byte, 0, 4096)
		for i := range frame.Packets {
			p := &frame.Packets[i]
			// The sequence tells the client that the content came through whole.
			out = wire.AppendResult(out, index, &wire.ResultView{Repo: p.Repo, ID: p.ID, Sequence: uint64(wire.ContentCRC(p.Content))})
			index++
		}
		frame.Free()
		if err := stream.SendMsg(&codec.Raw{Bytes: out, Release: func() { n.release.Add(1) }}); err != nil {
			return err
		}
	}
}

func (n *node) Publish(_ context.Context, r *waystationv1.PublishRequest) (*waystationv1.PublishResponse, error) {
	n.calls.Add(1)
	return &waystationv1.PublishResponse{Receipt: &waystationv1.Receipt{
		RepoId: r.GetPacket().GetRepoId(), PacketId: r.GetPacket().GetPacketId(), Sequence: uint64(len(r.GetPacket().GetContent())),
	}}, nil
}

func (n *node) Settle(_ context.Context, _ *waystationv1.SettleRequest) (*waystationv1.SettleResponse, error) {
	n.calls.Add(1)
	return &waystationv1.SettleResponse{}, nil
}

func (n *node) Work(stream grpc.BidiStreamingServer[waystationv1.WorkRequest, waystationv1.WorkResponse]) error {
	for {
		if _, err := stream.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		n.calls.Add(1)
	}
}

func packet(size int) *waystationv1.CodePacket {
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i * 7 >> 3)
	}
	return &waystationv1.CodePacket{RepoId: "acme/api", PacketId: "p", Content: content}
}

// TestPublishFrameInPlace sends frames of every size class through a real
// connection and a poisoned pool: what is read after Free, or written into a
// buffer that is not free, would change a CRC.
func TestPublishFrameInPlace(t *testing.T) {
	n := &node{pool: codec.NewPoisonedPool()}
	conn := start(t, n.pool, n, checked()...)
	stream, err := waystationv1.NewWaystationClient(conn).PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var index uint64
	for _, size := range []int{0, 1, 900, 1024, 20_000, 66_000, 300_000, 8 << 20} {
		for _, packets := range []int{1, 2, 7} {
			if size == 8<<20 && packets > 1 {
				continue
			}
			request := &waystationv1.PublishStreamRequest{}
			for range packets {
				request.Packets = append(request.Packets, packet(size))
			}
			if err := stream.Send(request); err != nil {
				t.Fatal(err)
			}
			response, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if len(response.Results) != packets {
				t.Fatalf("%d packets of %d bytes: got %d results", packets, size, len(response.Results))
			}
			for _, r := range response.Results {
				want := &waystationv1.PublishResult{Index: index, Receipt: &waystationv1.Receipt{
					RepoId: "acme/api", PacketId: "p", Sequence: uint64(wire.ContentCRC(packet(size).Content)),
				}}
				if !proto.Equal(r, want) {
					t.Fatalf("%d packets of %d bytes: got %v, want %v", packets, size, r, want)
				}
				index++
			}
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("end of stream: %v", err)
	}
}

func TestFreeGivesTheBufferBack(t *testing.T) {
	pool := codec.NewPoisonedPool()
	c := codec.NewServer(pool, wire.DefaultLimits())
	data, err := proto.Marshal(&waystationv1.PublishStreamRequest{Packets: []*waystationv1.CodePacket{packet(4000)}})
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Clone(data)
	frame := new(codec.PublishFrame)
	in := mem.BufferSlice{mem.SliceBuffer(data[:1000]), mem.SliceBuffer(data[1000:])}
	if err := c.Unmarshal(in, frame); err != nil {
		t.Fatal(err)
	}
	content := frame.Packets[0].Content
	if !bytes.Equal(content, packet(4000).Content) {
		t.Fatal("content differs")
	}
	if got := frame.Bytes(); got < len(data) || got > len(data)*3/2 {
		t.Errorf("bytes: got %d for a frame of %d", got, len(data))
	}
	if err := c.Unmarshal(in, frame); err == nil {
		t.Error("a frame that was not freed was filled again")
	}
	frame.Free()
	frame.Free()
	if content[0] != 0xdb || content[3999] != 0xdb {
		t.Error("the buffer did not go back to the pool")
	}
	if frame.Bytes() != 0 || frame.Packets != nil {
		t.Errorf("after free: %d bytes, %d packets", frame.Bytes(), len(frame.Packets))
	}
	if !bytes.Equal(data, sent) {
		t.Error("the transport's own buffer was overwritten")
	}
}

func TestRawPassesThrough(t *testing.T) {
	n := &node{pool: codec.NewPool()}
	conn := start(t, n.pool, n, checked()...)
	stream, err := conn.NewStream(t.Context(), &waystationv1.Waystation_ServiceDesc.Streams[0], waystationv1.Waystation_PublishStream_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	big := packet(100_000)
	fields := &wire.PacketFields{RepoID: "acme/api", PacketID: "p", Content: big.Content}
	frame := wire.AppendFramePacket(nil, fields)
	var released atomic.Int64
	for round := range 3 {
		// In one piece, in parts, and with small parts that cannot be counted.
		raw := &codec.Raw{Bytes: frame, Release: func() { released.Add(1) }}
		if round > 0 {
			raw = &codec.Raw{Bytes: frame[:10], Parts: [][]byte{frame[10:5000], frame[5000:]}, Release: raw.Release}
		}
		if err := stream.SendMsg(raw); err != nil {
			t.Fatal(err)
		}
		var answer codec.Raw
		if err := stream.RecvMsg(&answer); err != nil {
			t.Fatal(err)
		}
		want := wire.AppendResult(nil, uint64(round), &wire.ResultView{
			Repo: []byte("acme/api"), ID: []byte("p"), Sequence: uint64(wire.ContentCRC(big.Content)),
		})
		if !bytes.Equal(answer.Bytes, want) {
			t.Fatalf("round %d: got %x, want %x", round, answer.Bytes, want)
		}
	}
	await(t, "release of what the client sent", func() bool { return released.Load() == 3 })
	await(t, "release of what the server sent", func() bool { return n.release.Load() == 3 })
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&codec.Raw{}); !errors.Is(err, io.EOF) {
		t.Fatalf("end of stream: %v", err)
	}
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

func TestProtoMessagesAsEver(t *testing.T) {
	n := &node{pool: codec.NewPoisonedPool()}
	conn := start(t, n.pool, n, checked()...)
	for _, size := range []int{0, 10, 1000, 100_000, 5 << 20} {
		got, err := waystationv1.NewWaystationClient(conn).Publish(t.Context(), &waystationv1.PublishRequest{Packet: packet(size)})
		if err != nil {
			t.Fatal(err)
		}
		if got.Receipt.Sequence != uint64(size) || got.Receipt.RepoId != "acme/api" {
			t.Fatalf("%d bytes: got %v", size, got)
		}
	}
}

const notUTF8 = "caf\xe9"

// TestUndecodableRequests: INVALID_ARGUMENT with the field's name, and no handler
// ever sees the request.
func TestUndecodableRequests(t *testing.T) {
	field := func(number byte, value string) string { return string([]byte{number<<3 | 2, byte(len(value))}) + value }
	settlement := func(fields string) string { return field(2, fields) }
	for _, tc := range []struct {
		name, method, request, want string
	}{
		{"repo id", waystationv1.Waystation_Publish_FullMethodName, field(1, field(1, notUTF8)), "repo_id: is not valid UTF-8"},
		{"metadata value", waystationv1.Waystation_Publish_FullMethodName, field(1, field(1, "r")+field(3, field(1, "k")+field(2, notUTF8))), "metadata: is not valid UTF-8"},
		{"producer", waystationv1.Waystation_Publish_FullMethodName, field(1, field(5, field(1, notUTF8))), "position.producer: is not valid UTF-8"},
		{"second settlement", waystationv1.Waystation_Settle_FullMethodName, field(1, "g") + settlement(field(1, "r")) + settlement(field(5, notUTF8)), "settlements[1].error: is not valid UTF-8"},
		{"garbage", waystationv1.Waystation_Publish_FullMethodName, "\xff\xff\xff", "request: is not a valid protobuf message"},
		{"length beyond the end", waystationv1.Waystation_Publish_FullMethodName, "\x0a\x7f\x0a", "request: is not a valid protobuf message"},
		{"broken packet", waystationv1.Waystation_Publish_FullMethodName, field(1, "\x0a\x7f"), "packet: is not a valid protobuf message"},
		{"broken position", waystationv1.Waystation_Publish_FullMethodName, field(1, field(5, "\x10")), "position: is not a valid protobuf message"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := &node{pool: codec.NewPool()}
			conn := start(t, n.pool, n, checked()...)
			err := conn.Invoke(t.Context(), tc.method, &codec.Raw{Bytes: []byte(tc.request)}, &codec.Raw{})
			checkStatus(t, err, tc.want)
			if n.calls.Load() != 0 {
				t.Error("the handler ran")
			}
		})
	}
}

func checkStatus(t *testing.T, err error, want string) {
	t.Helper()
	if status.Code(err) != codes.InvalidArgument || status.Convert(err).Message() != want {
		t.Fatalf("got %v, want INVALID_ARGUMENT %q", err, want)
	}
}

func TestUndecodableStreamMessages(t *testing.T) {
	frame := &waystationv1.PublishStreamRequest{}
	for range wire.DefaultLimits().FramePackets + 1 {
		frame.Packets = append(frame.Packets, &waystationv1.CodePacket{RepoId: "r"})
	}
	tooMany, err := proto.Marshal(frame)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		stream  int
		method  string
		request string
		want    string
	}{
		{"work, not UTF-8", 1, waystationv1.Waystation_Work_FullMethodName, "\x0a\x06\x0a\x04" + notUTF8, "open.group: is not valid UTF-8"},
		{"work, garbage", 1, waystationv1.Waystation_Work_FullMethodName, "\x07", "request: is not a valid protobuf message"},
		{"frame, garbage", 0, waystationv1.Waystation_PublishStream_FullMethodName, "\x0a\x7f", "packets: is not a valid protobuf message"},
		{"frame, too many", 0, waystationv1.Waystation_PublishStream_FullMethodName, string(tooMany), "packets: has more than 1024 packets, the most in one frame: split it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := &node{pool: codec.NewPool()}
			conn := start(t, n.pool, n, checked()...)
			stream, err := conn.NewStream(t.Context(), &waystationv1.Waystation_ServiceDesc.Streams[tc.stream], tc.method)
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.SendMsg(&codec.Raw{Bytes: []byte(tc.request)}); err != nil {
				t.Fatal(err)
			}
			checkStatus(t, stream.RecvMsg(&codec.Raw{}), tc.want)
			if n.calls.Load() != 0 {
				t.Error("the handler got the message")
			}
		})
	}
}

// TestOneBadPacketOfAFrame: the others of its frame are good as ever.
func TestOneBadPacketOfAFrame(t *testing.T) {
	c := codec.NewServer(codec.NewPool(), wire.DefaultLimits())
	data := wire.AppendFramePacket(nil, &wire.PacketFields{RepoID: "a"})
	data = wire.AppendFramePacket(data, &wire.PacketFields{RepoID: notUTF8})
	data = wire.AppendFramePacket(data, &wire.PacketFields{RepoID: "c"})
	frame := new(codec.PublishFrame)
	if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, frame); err != nil {
		t.Fatal(err)
	}
	defer frame.Free()
	if err := codec.DecodeError(frame); err != nil || len(frame.Packets) != 3 {
		t.Fatalf("got %v, %d packets", err, len(frame.Packets))
	}
	limits := wire.DefaultLimits()
	for i, want := range []string{"", "repo_id: is not valid UTF-8", ""} {
		got := ""
		if err := frame.Packets[i].Validate(&limits); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("packet %d: got %q, want %q", i, got, want)
		}
	}
}

func TestClientFailsAtOnce(t *testing.T) {
	c := codec.NewClient(codec.NewPool())
	response := &waystationv1.PublishResponse{}
	err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer("\x0a\x04\x0a\x02\xff\xff")}, response)
	if err == nil || codec.DecodeError(response) != nil {
		t.Fatalf("got %v, and %v in the message", err, codec.DecodeError(response))
	}
	if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer("\x0a\x7f")}, new(codec.PublishFrame)); err == nil {
		t.Fatal("a broken frame was taken")
	}
}

func TestDecodeErrorOfGoodMessages(t *testing.T) {
	c := codec.NewServer(codec.NewPool(), wire.DefaultLimits())
	for _, data := range []string{"", "\x0a\x03\x0a\x01r", "\xf8\x07\x01" /* an unknown field */, "\xfa\xff\xff\xff\x0f\x01x" /* the marker's number, another form */} {
		request := &waystationv1.PublishRequest{}
		if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, request); err != nil {
			t.Fatal(err)
		}
		if err := codec.DecodeError(request); err != nil {
			t.Errorf("%x: got %v", data, err)
		}
	}
	if err := codec.DecodeError("no message"); err != nil {
		t.Error(err)
	}
}

// TestFrameAsUnaryRequest: a PublishRequest has the bytes of a frame of one packet,
// so that a server may take it in place too.
func TestFrameAsUnaryRequest(t *testing.T) {
	c := codec.NewServer(codec.NewPoisonedPool(), wire.DefaultLimits())
	data, err := proto.Marshal(&waystationv1.PublishRequest{Packet: packet(2000)})
	if err != nil {
		t.Fatal(err)
	}
	frame := new(codec.PublishFrame)
	if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, frame); err != nil {
		t.Fatal(err)
	}
	defer frame.Free()
	if len(frame.Packets) != 1 || !bytes.Equal(frame.Packets[0].Content, packet(2000).Content) {
		t.Fatalf("got %d packets", len(frame.Packets))
	}
}

func TestOtherValuesAreRefused(t *testing.T) {
	c := codec.NewClient(codec.NewPool())
	if _, err := c.Marshal("text"); err == nil {
		t.Error("marshal of a string")
	}
	if err := c.Unmarshal(nil, new(string)); err == nil {
		t.Error("unmarshal into a string")
	}
	for _, size := range []int{10, 10_000} {
		bad := &waystationv1.Receipt{RepoId: notUTF8, PacketId: strings.Repeat("x", size)}
		if _, err := c.Marshal(bad); err == nil {
			t.Error("marshal of what is not UTF-8")
		}
	}
	if c.Name() != "proto" {
		t.Errorf("name %q", c.Name())
	}
}
