package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// grpcFixture serves f's calls over a connection in memory.
func grpcFixture(t testing.TB) (*fixture, *grpc.ClientConn, waystationv1.WaystationClient) {
	t.Helper()
	f := newFixture(t)
	limits := wire.DefaultLimits()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.ForceServerCodecV2(codec.NewServer(codec.NewPoisonedPool(), limits)),
		grpc.MaxRecvMsgSize(64<<20), grpc.WaitForHandlers(true))
	g := NewGRPC(f.calls)
	g.Register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		g.Wait()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return f, conn, waystationv1.NewWaystationClient(conn)
}

func code(repo string, content []byte) *waystationv1.CodePacket {
	return &waystationv1.CodePacket{RepoId: repo, Content: content}
}

// field is the field that a status names, in each of the two ways.
func field(t testing.TB, err error) string {
	t.Helper()
	var bad, own string
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *errdetails.BadRequest:
			bad = d.GetFieldViolations()[0].GetField()
		case *waystationv1.Error:
			own = d.GetField()
		}
	}
	if bad != own {
		t.Errorf("details disagree: %q and %q", bad, own)
	}
	return bad
}

func TestPublishOverGRPC(t *testing.T) {
	f, conn, c := grpcFixture(t)
	resp, err := c.Publish(t.Context(), &waystationv1.PublishRequest{Packet: code("acme/api", []byte("hi"))})
	if err != nil || resp.GetReceipt().GetSequence() != 1 || resp.GetReceipt().GetRepoId() != "acme/api" {
		t.Fatalf("got %v, %v", resp, err)
	}
	for name, x := range map[string]struct {
		packet *waystationv1.CodePacket
		field  string
	}{
		"empty repository": {code("", nil), "repo_id"},
		"long repository":  {code(strings.Repeat("x", 513), nil), "repo_id"},
		"large content":    {code("a", make([]byte, 8<<20+1)), "content"},
		"far too large":    {code("a", make([]byte, 24<<20)), "content"},
		"unknown encoding": {&waystationv1.CodePacket{RepoId: "a", ContentEncoding: 9}, "content_encoding"},
		"wrong CRC":        {&waystationv1.CodePacket{RepoId: "a", ContentCrc32C: proto.Uint32(1)}, "content_crc32c"},
		"no packet":        {nil, "packet"},
	} {
		_, err := c.Publish(t.Context(), &waystationv1.PublishRequest{Packet: x.packet})
		if status.Code(err) != codes.InvalidArgument || field(t, err) != x.field {
			t.Errorf("%s: field %q: %v", name, field(t, err), err)
		}
	}
	// A client of ours refuses to send invalid UTF-8; others do send it.
	bad := wire.AppendFramePacket(nil, &wire.PacketFields{RepoID: "a\xff"})
	err = conn.Invoke(t.Context(), waystationv1.Waystation_Publish_FullMethodName, &codec.Raw{Bytes: bad}, &codec.Raw{},
		grpc.ForceCodecV2(codec.NewClient(codec.NewPool())))
	if status.Code(err) != codes.InvalidArgument || field(t, err) != "repo_id" {
		t.Errorf("invalid UTF-8: field %q: %v", field(t, err), err)
	}
	if f.relay.heads["a"] != 0 {
		t.Error("something of it was accepted")
	}
}

// TestInvalidUTF8InEveryCall: no call answers INTERNAL to what the caller sent.
func TestInvalidUTF8InEveryCall(t *testing.T) {
	_, conn, _ := grpcFixture(t)
	raw := grpc.ForceCodecV2(codec.NewClient(codec.NewPool()))
	bad := []byte{1<<3 | 2, 1, 0xff} // field 1: a string in all of these
	for _, method := range []string{
		waystationv1.Waystation_Pull_FullMethodName, waystationv1.Waystation_Settle_FullMethodName,
		waystationv1.Waystation_Renew_FullMethodName, waystationv1.Waystation_LookupPacket_FullMethodName,
		waystationv1.Waystation_ReadPackets_FullMethodName, waystationv1.Waystation_OpenProducer_FullMethodName,
		waystationv1.Waystation_GetRepository_FullMethodName, waystationv1.Waystation_ListDeadLetters_FullMethodName,
		waystationv1.Waystation_RedriveDeadLetters_FullMethodName, waystationv1.Waystation_DiscardDeadLetters_FullMethodName,
	} {
		for name, message := range map[string][]byte{"not UTF-8": bad, "garbage": {0xff, 0xff}} {
			err := conn.Invoke(t.Context(), method, &codec.Raw{Bytes: message}, &codec.Raw{}, raw)
			if status.Code(err) != codes.InvalidArgument || field(t, err) == "" {
				t.Errorf("%s: %s: field %q: %v", method, name, field(t, err), err)
			}
		}
	}
}

// TestErrorsHaveOneCodeEach holds the mapping to gRPC.
func TestErrorsHaveOneCodeEach(t *testing.T) {
	f, _, c := grpcFixture(t)
	for _, x := range []struct {
		refusal actors.Refusal
		code    codes.Code
	}{
		{actors.Refusal{Code: actors.CodeInvalidArgument, Field: "f", Message: "m"}, codes.InvalidArgument},
		{actors.Refusal{Code: actors.CodeNotFound}, codes.NotFound},
		{actors.Refusal{Code: actors.CodeResourceExhausted, RetryAfter: time.Second}, codes.ResourceExhausted},
		{actors.Refusal{Code: actors.CodeUnavailable, RetryAfter: time.Second}, codes.Unavailable},
		{actors.Refusal{Code: actors.CodeUnknown, RetryAfter: time.Second}, codes.Unknown},
		{actors.Refusal{Code: actors.CodeGap, Expected: 9}, codes.FailedPrecondition},
		{actors.Refusal{Code: actors.CodeFenced}, codes.FailedPrecondition},
		{actors.Refusal{Code: actors.CodeUnknownProducer}, codes.FailedPrecondition},
		{actors.Refusal{Code: actors.CodeStaleLease}, codes.FailedPrecondition},
		{actors.Refusal{Code: actors.CodeInternal}, codes.Internal},
	} {
		f.relay.refuse = &x.refusal
		_, err := c.Publish(t.Context(), &waystationv1.PublishRequest{Packet: code("a", nil)})
		var own *waystationv1.Error
		var retry time.Duration
		for _, d := range status.Convert(err).Details() {
			switch d := d.(type) {
			case *waystationv1.Error:
				own = d
			case *errdetails.RetryInfo:
				retry = d.GetRetryDelay().AsDuration()
			}
		}
		if status.Code(err) != x.code || own.GetCode() != x.refusal.Code || own.GetExpectedSequence() != x.refusal.Expected ||
			retry != x.refusal.RetryAfter || own.GetRetryAfterMs() != x.refusal.RetryAfter.Milliseconds() {
			t.Errorf("%s: code %v, details %v, retry after %v", x.refusal.Code, status.Code(err), own, retry)
		}
	}
}

func TestCallsOverGRPC(t *testing.T) {
	f, _, c := grpcFixture(t)
	ctx := t.Context()
	pull, err := c.Pull(ctx, &waystationv1.PullRequest{Group: "ci", Max: 3, WaitMs: 4, LeaseMs: 5000, Worker: "w"})
	want := actors.PullConfig{Group: "ci", Max: 3, WaitMs: 4, LeaseMs: 5000, Worker: "w"}
	if err != nil || len(pull.GetDeliveries()) != 1 || f.delivery.lastPull != want {
		t.Fatalf("pull: %v, %v, %+v", pull, err, f.delivery.lastPull)
	}
	d := pull.GetDeliveries()[0]
	sent, _ := proto.Marshal(d.GetPacket())
	if !bytes.Equal(sent, aPacket()) || d.GetSequence() != 7 || d.GetLeaseToken() != 11 || d.GetAttempt() != 2 ||
		d.GetLeaseMs() != 30_000 || !d.GetRedelivered() || d.GetLeaseExpiresAt().AsTime().UnixMilli() != accepted+30_000 ||
		d.GetAcceptedAt().AsTime().UnixMilli() != accepted {
		t.Errorf("delivery: %v", d)
	}
	settle, err := c.Settle(ctx, &waystationv1.SettleRequest{Group: "ci", Settlements: []*waystationv1.Settlement{
		{RepoId: "a", Sequence: 1, LeaseToken: 11, Outcome: waystationv1.Outcome_DONE, Result: []byte("r")},
		{RepoId: "b", Sequence: 2, LeaseToken: 1, Outcome: 77, RetryAfterMs: 5},
	}})
	if err != nil || settle.GetResults()[0].GetError() != nil || settle.GetResults()[1].GetError().GetCode() != actors.CodeStaleLease {
		t.Errorf("settle: %v, %v", settle, err)
	}
	if got := f.delivery.lastSettle; got[0].Outcome != actors.OutcomeDone || string(got[0].Result) != "r" || got[1].Outcome != 0 || got[1].RetryAfterMs != 5 {
		t.Errorf("settlements: %+v", got)
	}
	renew, err := c.Renew(ctx, &waystationv1.RenewRequest{Group: "ci", Leases: []*waystationv1.LeaseRef{{RepoId: "a", LeaseToken: 11}, {RepoId: "a", LeaseToken: 1}}})
	if err != nil || renew.GetResults()[0].GetLeaseExpiresAt().AsTime().UnixMilli() != accepted+60_000 || renew.GetResults()[1].GetError() == nil {
		t.Errorf("renew: %v, %v", renew, err)
	}
	lookup, err := c.LookupPacket(ctx, &waystationv1.LookupPacketRequest{RepoId: "acme/api", Sequence: 7})
	if err != nil || lookup.GetPacket().GetPacket().GetPacketId() != "p1" || lookup.GetSequence() != 7 || lookup.GetGroups()[0].GetState() != "dead" {
		t.Errorf("lookup: %v, %v", lookup, err)
	}
	read, err := c.ReadPackets(ctx, &waystationv1.ReadPacketsRequest{RepoId: "acme/api", From: 7})
	if err != nil || read.GetHead() != 9 || read.GetPackets()[0].GetSequence() != 7 {
		t.Errorf("read: %v, %v", read, err)
	}
	repo, err := c.GetRepository(ctx, &waystationv1.GetRepositoryRequest{RepoId: "parked"})
	if err != nil || !repo.GetParked() || repo.GetGroups()[0].GetCursors().GetHigh() != 1 || repo.GetGroups()[1].GetLeasedUntil() != nil {
		t.Errorf("repository: %v, %v", repo, err)
	}
	dead, err := c.ListDeadLetters(ctx, &waystationv1.ListDeadLettersRequest{Group: "ci"})
	if err != nil || dead.GetDead()[0].GetReason() != "attempts" || dead.GetCursor() != "next:" {
		t.Errorf("dead letters: %v, %v", dead, err)
	}
	redriven, err := c.RedriveDeadLetters(ctx, &waystationv1.RedriveDeadLettersRequest{Group: "ci", RepoId: "r", Sequence: 7, Reason: "poison", Limit: 4})
	if err != nil || redriven.GetRedriven() != 4 || redriven.GetCursor() != "4" {
		t.Errorf("redrive: %v, %v", redriven, err)
	}
	discarded, err := c.DiscardDeadLetters(ctx, &waystationv1.DiscardDeadLettersRequest{Group: "ci", Cursor: "2"})
	if err != nil || discarded.GetDiscarded() != 3 || discarded.GetCursor() != "" {
		t.Errorf("discard: %v, %v", discarded, err)
	}
	epoch, err := c.OpenProducer(ctx, &waystationv1.OpenProducerRequest{Producer: "abc"})
	if err != nil || epoch.GetEpoch() != 3 || epoch.GetProducer() != "abc" {
		t.Errorf("producer: %v, %v", epoch, err)
	}
	cluster, err := c.DescribeCluster(ctx, &waystationv1.DescribeClusterRequest{})
	if err != nil || cluster.GetClusterId() != "c1" {
		t.Errorf("cluster: %v, %v", cluster, err)
	}
}

func send(t *testing.T, s grpc.BidiStreamingClient[waystationv1.PublishStreamRequest, waystationv1.PublishStreamResponse], packets ...*waystationv1.CodePacket) {
	t.Helper()
	if err := s.Send(&waystationv1.PublishStreamRequest{Packets: packets}); err != nil {
		t.Fatal(err)
	}
}

func TestPublishStream(t *testing.T) {
	_, _, c := grpcFixture(t)
	s, err := c.PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const frames, size = 50, 7
	for range frames {
		var packets []*waystationv1.CodePacket
		for i := range size {
			repo := "a"
			if i == size-1 {
				repo = ""
			}
			packets = append(packets, code(repo, []byte("x")))
		}
		send(t, s, packets...)
	}
	send(t, s) // an empty frame is nothing
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	got := make(map[uint64]*waystationv1.PublishResult)
	for {
		resp, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range resp.GetResults() {
			if got[r.GetIndex()] != nil {
				t.Fatalf("packet %d is answered twice", r.GetIndex())
			}
			got[r.GetIndex()] = r
		}
	}
	if len(got) != frames*size {
		t.Fatalf("%d answers to %d packets", len(got), frames*size)
	}
	for i, r := range got {
		if bad := i%size == size-1; bad != (r.GetError().GetField() == "repo_id") || bad == (r.GetReceipt() != nil) {
			t.Fatalf("packet %d: %v", i, r)
		}
	}
}

func TestPublishStreamRefusesBadFrames(t *testing.T) {
	_, conn, c := grpcFixture(t)
	for name, x := range map[string]struct {
		packets []*waystationv1.CodePacket
		field   string
	}{
		"over 4 MiB":         {[]*waystationv1.CodePacket{code("a", make([]byte, 3<<20)), code("a", make([]byte, 2<<20))}, "packets"},
		"over 1,024 packets": {make([]*waystationv1.CodePacket, 1025), "packets"},
	} {
		for i := range x.packets {
			if x.packets[i] == nil {
				x.packets[i] = code("a", nil)
			}
		}
		s, err := c.PublishStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		send(t, s, code("first", nil))
		if resp, err := s.Recv(); err != nil || resp.GetResults()[0].GetReceipt() == nil {
			t.Fatalf("%s: the frame before: %v, %v", name, resp, err)
		}
		_ = s.Send(&waystationv1.PublishStreamRequest{Packets: x.packets}) // may see the end already
		_, err = s.Recv()
		if status.Code(err) != codes.InvalidArgument || field(t, err) != x.field {
			t.Errorf("%s: field %q: %v", name, field(t, err), err)
		}
	}
	// One packet that is too large, or is not UTF-8, is refused alone.
	one, err := c.PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send(t, one, code("a", make([]byte, 8<<20+1)))
	if resp, err := one.Recv(); err != nil || resp.GetResults()[0].GetError().GetField() != "content" {
		t.Errorf("large content: %v, %v", resp, err)
	}
	send(t, one, code("a", nil))
	if resp, err := one.Recv(); err != nil || resp.GetResults()[0].GetReceipt() == nil {
		t.Errorf("after it: %v, %v", resp, err)
	}
	raw := grpc.ForceCodecV2(codec.NewClient(codec.NewPool()))
	s, err := conn.NewStream(t.Context(), &waystationv1.Waystation_ServiceDesc.Streams[0], waystationv1.Waystation_PublishStream_FullMethodName, raw)
	if err != nil {
		t.Fatal(err)
	}
	frame := wire.AppendFramePacket(nil, &wire.PacketFields{RepoID: "a\xff"})
	frame = wire.AppendFramePacket(frame, &wire.PacketFields{RepoID: "a"})
	if err := s.SendMsg(&codec.Raw{Bytes: frame}); err != nil {
		t.Fatal(err)
	}
	var resp waystationv1.PublishStreamResponse
	if err := s.RecvMsg(&resp); err != nil || resp.GetResults()[0].GetError().GetField() != "repo_id" || resp.GetResults()[1].GetReceipt() == nil {
		t.Errorf("one bad packet: %v, %v", &resp, err)
	}
}

// TestClientThatNeverReads: its answers are bounded, because it is not read from
// any more; and another one does not notice.
func TestClientThatNeverReads(t *testing.T) {
	f, _, c := grpcFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := c.PublishStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	packets := make([]*waystationv1.CodePacket, 1024)
	for i := range packets {
		packets[i] = code(strings.Repeat("r", 400), nil) // 400 bytes of answer each
	}
	stuck := make(chan int)
	go func() {
		n := 0
		defer func() { stuck <- n }()
		for ; n < 2000; n++ {
			if s.Send(&waystationv1.PublishStreamRequest{Packets: packets}) != nil {
				return
			}
		}
	}()
	last := -1
	await(t, "the stream to be read no more", func() bool {
		n := f.relay.count()
		still := n == last && n > 0
		last = n
		if !still {
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		return still
	})
	// What gRPC's own windows hold of the answers, and what is unanswered.
	if most := 3 * unanswered / 1024 * 4; last > most {
		t.Errorf("%d frames were taken in, want at most %d", last, most)
	}
	if _, err := c.Publish(ctx, &waystationv1.PublishRequest{Packet: code("other", nil)}); err != nil {
		t.Errorf("another client: %v", err)
	}
	cancel()
	if n := <-stuck; n == 2000 {
		t.Error("everything was taken from a client that never reads")
	}
}

func TestPublishStreamDrains(t *testing.T) {
	f, _, c := grpcFixture(t)
	f.relay.hold = true
	s, err := c.PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, code("a", nil))
	await(t, "the packet", func() bool { return f.relay.count() == 1 })
	f.health.Drain()
	time.AfterFunc(20*time.Millisecond, f.relay.release)
	resp, err := s.Recv()
	if err != nil || resp.GetResults()[0].GetReceipt() == nil {
		t.Fatalf("what was in flight: %v, %v", resp, err)
	}
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the end: %v", err)
	}
	if s, err = c.PublishStream(t.Context()); err == nil {
		_, err = s.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("another stream: %v", err)
	}
}

// TestAnswersAfterTheStream: answers to a stream that is gone go nowhere.
func TestAnswersAfterTheStream(t *testing.T) {
	f, _, c := grpcFixture(t)
	f.relay.hold = true
	ctx, cancel := context.WithCancel(t.Context())
	s, err := c.PublishStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, code("a", nil))
	await(t, "the packet", func() bool { return f.relay.count() == 1 })
	cancel()
	_, _ = s.Recv()
	f.relay.release()
	if f.relay.freed != 1 {
		t.Error("the frame was not given back")
	}
}

// routedRelay tells routes.
type routedRelay struct {
	*fakeRelay
	mu      sync.Mutex
	message []byte
	changed chan struct{}
}

func (r *routedRelay) Routes() ([]byte, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.message, r.changed
}

func (r *routedRelay) tell(t *testing.T, node string) {
	t.Helper()
	message, err := proto.Marshal(&waystationv1.PublishStreamResponse{Routes: &waystationv1.Routes{NodeId: node}})
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed != nil {
		close(r.changed)
	}
	r.message, r.changed = message, make(chan struct{})
}

// TestPublishStreamTellsRoutes: before the first receipt, and whenever they change,
// also to who sends nothing.
func TestPublishStreamTellsRoutes(t *testing.T) {
	f, _, c := grpcFixture(t)
	r := &routedRelay{fakeRelay: f.relay}
	r.tell(t, "a")
	f.calls.relay = r
	s, err := c.PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expect := func(node string) {
		t.Helper()
		if resp, err := s.Recv(); err != nil || resp.GetRoutes().GetNodeId() != node || len(resp.GetResults()) > 0 {
			t.Fatalf("got %v, %v, want the routes of %s", resp, err, node)
		}
	}
	expect("a")
	r.tell(t, "b")
	expect("b")
	f.relay.refuse = &actors.Refusal{Code: actors.CodeUnavailable, RetryAfter: time.Second, Leader: "c:1"}
	send(t, s, code("a", nil))
	if resp, err := s.Recv(); err != nil || resp.GetRoutes() != nil || resp.GetResults()[0].GetError().GetLeader() != "c:1" {
		t.Fatalf("got %v, %v, want a refusal that names the leader", resp, err)
	}
	r.tell(t, "c")
	expect("c")
}
