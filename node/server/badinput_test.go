package server_test

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
	"github.com/waystation/waystation/node/config"
)

func fieldOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			return bad.GetFieldViolations()[0].GetField()
		}
	}
	return ""
}

func reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if own, ok := d.(*waystationv1.Error); ok {
			return own.GetCode()
		}
	}
	return ""
}

// TestBadPackets sends every kind of bad packet to a real node, over gRPC. Each is
// refused by its field, with a message; nothing of it is accepted.
func TestBadPackets(t *testing.T) {
	n := start(t, dataDir(t))
	big := map[string]string{"a": strings.Repeat("x", 16<<10)}
	many := make(map[string]string)
	for i := range 65 {
		many[fmt.Sprint(i)] = ""
	}
	at := func(producer string, epoch, sequence uint64) *waystationv1.Position {
		return &waystationv1.Position{Producer: producer, Epoch: epoch, Sequence: sequence}
	}
	for name, x := range map[string]struct {
		packet *waystationv1.CodePacket
		field  string
		reason string // INVALID_ARGUMENT when empty
	}{
		"empty repository":      {&waystationv1.CodePacket{}, "repo_id", ""},
		"long repository":       {&waystationv1.CodePacket{RepoId: strings.Repeat("x", 513)}, "repo_id", ""},
		"large content":         {&waystationv1.CodePacket{RepoId: "bad", Content: make([]byte, 8<<20+1)}, "content", ""},
		"far too large content": {&waystationv1.CodePacket{RepoId: "bad", Content: make([]byte, 20<<20)}, "content", ""},
		"large metadata":        {&waystationv1.CodePacket{RepoId: "bad", Metadata: big}, "metadata", ""},
		"much metadata":         {&waystationv1.CodePacket{RepoId: "bad", Metadata: many}, "metadata", ""},
		"unknown encoding":      {&waystationv1.CodePacket{RepoId: "bad", ContentEncoding: 7}, "content_encoding", ""},
		"unknown priority":      {&waystationv1.CodePacket{RepoId: "bad", Priority: -1}, "priority", ""},
		"wrong CRC":             {&waystationv1.CodePacket{RepoId: "bad", Content: []byte("x"), ContentCrc32C: proto.Uint32(7)}, "content_crc32c", ""},
		"negative time to live": {&waystationv1.CodePacket{RepoId: "bad", TimeToLive: durationpb.New(-time.Second)}, "time_to_live", ""},
		"absurd time to live":   {&waystationv1.CodePacket{RepoId: "bad", TimeToLive: &durationpb.Duration{Seconds: 1 << 40}}, "time_to_live", ""},
		"negative delay":        {&waystationv1.CodePacket{RepoId: "bad", DeliverAfter: durationpb.New(-1)}, "deliver_after", ""},
		"delay over its life":   {&waystationv1.CodePacket{RepoId: "bad", DeliverAfter: durationpb.New(time.Hour), TimeToLive: durationpb.New(time.Minute)}, "deliver_after", ""},
		"made in the year 1":    {&waystationv1.CodePacket{RepoId: "bad", CreatedAt: &timestamppb.Timestamp{Seconds: -62135596800}}, "created_at", ""},
		"broken time":           {&waystationv1.CodePacket{RepoId: "bad", CreatedAt: &timestamppb.Timestamp{Nanos: -5}}, "created_at", ""},
		"epoch 0":               {&waystationv1.CodePacket{RepoId: "bad", Position: at("p", 0, 1)}, "position.epoch", ""},
		"sequence 0":            {&waystationv1.CodePacket{RepoId: "bad", Position: at("p", 1, 0)}, "position.sequence", ""},
		"empty producer":        {&waystationv1.CodePacket{RepoId: "bad", Position: at("", 1, 1)}, "position.producer", ""},
		"unknown producer":      {&waystationv1.CodePacket{RepoId: "bad", Position: at("nobody", 1, 5)}, "position.producer", "UNKNOWN_PRODUCER"},
		"gap":                   {&waystationv1.CodePacket{RepoId: "good", Position: at("known", 2, 5)}, "position.sequence", "GAP"},
		"old epoch":             {&waystationv1.CodePacket{RepoId: "good", Position: at("known", 1, 1)}, "position.epoch", "FENCED"},
	} {
		if x.packet.GetRepoId() == "good" {
			if _, err := n.rpc.Publish(t.Context(), &waystationv1.PublishRequest{Packet: &waystationv1.CodePacket{RepoId: "good", Position: at("known", 2, 1)}}); err != nil {
				t.Fatal(err)
			}
		}
		want := x.reason
		if want == "" {
			want = "INVALID_ARGUMENT"
		}
		_, err := n.rpc.Publish(t.Context(), &waystationv1.PublishRequest{Packet: x.packet})
		code := codes.InvalidArgument
		if x.reason != "" {
			code = codes.FailedPrecondition
		}
		if status.Code(err) != code || fieldOf(err) != x.field || reason(err) != want || status.Convert(err).Message() == "" {
			t.Errorf("%s: code %v, field %q, reason %q: %v", name, status.Code(err), fieldOf(err), reason(err), err)
		}
	}
	raw := grpc.ForceCodecV2(codec.NewClient(codec.NewPool()))
	for field, p := range map[string]wire.PacketFields{
		"repo_id": {RepoID: "bad\xff"}, "packet_id": {RepoID: "bad", PacketID: "\xff"}, "kind": {RepoID: "bad", Kind: "\xff"},
		"metadata": {RepoID: "bad", Metadata: map[string]string{"k": "\xff"}},
	} {
		err := n.conn.Invoke(t.Context(), waystationv1.Waystation_Publish_FullMethodName, &codec.Raw{Bytes: wire.AppendFramePacket(nil, &p)}, &codec.Raw{}, raw)
		if status.Code(err) != codes.InvalidArgument || fieldOf(err) != field {
			t.Errorf("%s that is not UTF-8: %v", field, err)
		}
	}
	if status := n.http("GET", "/v1/repos/bad", "", nil); status != 404 {
		t.Errorf("something bad was accepted: %d", status)
	}
}

// TestTokensOfOthers: a settlement needs the lease's own token.
func TestTokensOfOthers(t *testing.T) {
	n := start(t, dataDir(t))
	n.publish("acme/a", "x")
	n.publish("acme/b", "x")
	first := n.take("ci", 2, "")
	if len(first) != 2 {
		t.Fatalf("deliveries: %+v", first)
	}
	a, b := first[0], first[1]
	stolen := a
	if stolen.LeaseToken = b.LeaseToken; a.LeaseToken == b.LeaseToken {
		stolen.LeaseToken += "0" // tokens are told apart by their repositories only
	}
	var f fault
	if status := stolen.settle(n, "ci", "done", &f); status != 409 || f.Error.Code != "STALE_LEASE" || f.Error.Field != "lease_token" {
		t.Errorf("another's token: %d %+v", status, f)
	}
	if status := a.settle(n, "ci", "retry", nil); status != 200 {
		t.Errorf("own token: %d", status)
	}
	again := n.take("ci", 1, "")
	if len(again) != 1 || again[0].Attempt != 2 || again[0].LeaseToken == a.LeaseToken {
		t.Fatalf("second attempt: %+v", again)
	}
	f = fault{}
	if status := a.settle(n, "ci", "done", &f); status != 409 || f.Error.Code != "STALE_LEASE" {
		t.Errorf("old token: %d %+v", status, f)
	}
	if status := again[0].settle(n, "ci", "done", nil); status != 200 {
		t.Errorf("new token: %d", status)
	}
}

// TestGarbageOnEveryPort: noise is cut off or answered, and nobody else notices.
func TestGarbageOnEveryPort(t *testing.T) {
	n := start(t, dataDir(t))
	noise := make([]byte, 64<<10)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"noise": noise, "HTTP": []byte("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), "TLS": {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc},
		"preface and noise": append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), noise...), "zeros": make([]byte, 1<<16),
		"endless header": []byte("GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 1<<20)),
	} {
		for _, addr := range []string{n.Addresses.GRPC, n.Addresses.HTTP, n.Addresses.Peer, n.Addresses.Gossip} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			_, _ = conn.Write(data) // may be cut off meanwhile
			if c, ok := conn.(*net.TCPConn); ok {
				_ = c.CloseWrite()
			}
			if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("%s to %s: the connection is left open", name, addr)
			}
			conn.Close()
		}
	}
	n.publish("acme/api", "x")
	if _, err := n.rpc.Publish(t.Context(), &waystationv1.PublishRequest{Packet: &waystationv1.CodePacket{RepoId: "a"}}); err != nil {
		t.Error(err)
	}
}

// halfFrame is an HTTP/2 connection that begins a PublishStream and stops in the
// middle of a message.
func halfFrame(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	frame := func(kind, flags byte, stream uint32, payload []byte) []byte {
		b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
		return append(binary.BigEndian.AppendUint32(b, stream), payload...)
	}
	literal := func(b []byte, k, v string) []byte {
		b = append(b, 0, byte(len(k)))
		b = append(b, k...)
		b = append(b, byte(len(v)))
		return append(b, v...)
	}
	var headers []byte
	for _, h := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":path", waystationv1.Waystation_PublishStream_FullMethodName},
		{":authority", "localhost"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
	} {
		headers = literal(headers, h[0], h[1])
	}
	out := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0, nil)...)
	out = append(out, frame(1, 4, 1, headers)...)
	message := append([]byte{0, 0, 0, 0x10, 0}, "only the beginning of 4,096 bytes"...)
	out = append(out, frame(0, 0, 1, message)...)
	if _, err := conn.Write(out); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestClientThatStopsMidFrame: it is accepted nothing of, others go on, and the
// node still drains.
func TestClientThatStopsMidFrame(t *testing.T) {
	n := start(t, dataDir(t), func(c *config.Config) { c.DrainTimeout = distant })
	for range 20 {
		conn := halfFrame(t, n.Addresses.GRPC)
		defer conn.Close()
	}
	half, err := net.Dial("tcp", n.Addresses.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	fmt.Fprintf(half, "POST /v1/repos/half/packets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nhalf")
	n.publish("acme/api", "x")
	if _, err := n.rpc.Publish(t.Context(), &waystationv1.PublishRequest{Packet: &waystationv1.CodePacket{RepoId: "a"}}); err != nil {
		t.Error(err)
	}
	if status := n.http("GET", "/v1/repos/half", "", nil); status != 404 {
		t.Errorf("half a packet: %d", status)
	}
	half.Close()
	begin := time.Now()
	n.stop()
	if took := time.Since(begin); took > distant/2 {
		t.Errorf("the drain took %v", took)
	}
}

func TestForeignHostAndOrigin(t *testing.T) {
	n := start(t, dataDir(t))
	var f fault
	if status := n.http("POST", "/v1/repos/acme/api/packets", "x", &f, "Origin", "http://evil.example"); status != 403 || f.Error.Field != "Origin" {
		t.Errorf("cross-origin: %d %+v", status, f)
	}
	conn, err := net.Dial("tcp", n.Addresses.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/repos/acme/api/packets HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 403") || !strings.Contains(string(answer), `"field":"Host"`) {
		t.Errorf("foreign host: %v %s", err, answer)
	}
	if status := n.http("GET", "/v1/repos/acme/api", "", nil); status != 404 {
		t.Errorf("something was accepted: %d", status)
	}
}
