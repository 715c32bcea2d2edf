package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waystation/waystation/client/internal/fakerelay"
	"github.com/waystation/waystation/messages/wire"
)

func TestPublishReturnsReceipt(t *testing.T) {
	r := relay(t, nil)
	c := dial(t, r)
	for i := 1; i <= 3; i++ {
		got, err := c.Publish(within(t), &Packet{RepoID: "acme/api", PacketID: fmt.Sprint(i), Content: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		want := Receipt{RepoID: "acme/api", PacketID: fmt.Sprint(i), Sequence: uint64(i)}
		if got != want {
			t.Fatalf("receipt %+v, want %+v", got, want)
		}
	}
	got, err := c.Publish(within(t), &Packet{RepoID: "acme/api", PacketID: "2", Content: []byte("y")})
	if want := (Receipt{RepoID: "acme/api", PacketID: "2", Sequence: 2, Duplicate: true, ContentDiffers: true}); err != nil || got != want {
		t.Fatalf("receipt of a duplicate %+v, %v; want %+v", got, err, want)
	}
}

func TestPublishSendsEveryField(t *testing.T) {
	r := relay(t, nil)
	c := dial(t, r)
	at := time.Date(2026, 5, 4, 3, 2, 1, 5e6, time.UTC)
	p := &Packet{
		RepoID: "a", Content: []byte("content"), Metadata: map[string]string{"branch": "main"}, PacketID: "id",
		Priority: PriorityHigh, ContentEncoding: EncodingZstd, Kind: "diff", TimeToLive: time.Hour,
		DeliverAfter: time.Minute, CreatedAt: at, Traceparent: "00-1-2-01",
	}
	if _, err := c.Publish(within(t), p); err != nil {
		t.Fatal(err)
	}
	info, err := c.LookupID(within(t), "a", "id")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%+v", info.Packet.Packet); got != fmt.Sprintf("%+v", *p) {
		t.Errorf("stored %s\nsent   %+v", got, *p)
	}
	stored := r.Packets("a")[0].Packet()
	if stored.GetPosition().GetSequence() != 1 || stored.ContentCrc32C == nil {
		t.Errorf("position %v, crc %v: want both", stored.GetPosition(), stored.ContentCrc32C)
	}
}

func TestPublishRefusesBadPacketsAtOnce(t *testing.T) {
	r := relay(t, nil)
	c := dial(t, r)
	many := make(map[string]string)
	for i := range 65 {
		many[fmt.Sprint(i)] = ""
	}
	for field, p := range map[string]Packet{
		"repo_id":          {},
		"packet_id":        {RepoID: "a", PacketID: strings.Repeat("x", 257)},
		"content":          {RepoID: "a", Content: make([]byte, 8<<20+1)},
		"metadata":         {RepoID: "a", Metadata: many},
		"kind":             {RepoID: "a", Kind: "\xff"},
		"traceparent":      {RepoID: "a", Traceparent: strings.Repeat("x", 129)},
		"priority":         {RepoID: "a", Priority: 3},
		"content_encoding": {RepoID: "a", ContentEncoding: 3},
		"time_to_live":     {RepoID: "a", TimeToLive: -1},
		"deliver_after":    {RepoID: "a", TimeToLive: time.Second, DeliverAfter: time.Second},
	} {
		_, err := c.Publish(within(t), &p)
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeInvalidArgument || e.Field != field {
			t.Errorf("%s: error %v", field, err)
		}
		if err := c.PublishAsync(within(t), &p, func(Receipt, error) { t.Errorf("%s: callback of a refused packet", field) }); err == nil {
			t.Errorf("%s: PublishAsync returned no error", field)
		}
	}
	if frames, _ := r.Counts(); frames > 0 {
		t.Errorf("%d frames were sent", frames)
	}
}

func TestPublishHonoursTheServersDelay(t *testing.T) {
	const delay = 60 * time.Millisecond
	var first atomic.Int64
	var early, tries atomic.Int32
	r := relay(t, func(r *fakerelay.Relay) {
		r.OnPacket = func(*wire.Packet) *wire.ResultView {
			tries.Add(1)
			now := time.Now().UnixNano()
			if first.CompareAndSwap(0, now) {
				return &wire.ResultView{Code: CodeResourceExhausted, RetryAfterMs: delay.Milliseconds()}
			}
			if time.Duration(now-first.Load()) < delay {
				early.Add(1)
			}
			return nil
		}
	})
	c := dial(t, r)
	if _, err := c.Publish(within(t), &Packet{RepoID: "a"}); err != nil {
		t.Fatal(err)
	}
	if early.Load() > 0 || tries.Load() != 2 {
		t.Errorf("%d tries, %d of them before the delay was over", tries.Load(), early.Load())
	}
}

func TestPublishContentIsTheCallersAgainWhenItsContextEnds(t *testing.T) {
	var calls atomic.Int32
	arrived, resume := make(chan struct{}), make(chan struct{})
	r := relay(t, func(r *fakerelay.Relay) {
		r.OnFrame = func(frame int) error {
			if frame > 1 {
				return nil
			}
			close(arrived)
			<-resume
			return errors.New("lost") // so that it must be sent again
		}
		r.OnPacket = func(*wire.Packet) *wire.ResultView {
			calls.Add(1)
			return nil
		}
	})
	c := dial(t, r)
	ctx, cancel := context.WithCancel(within(t))
	content := []byte("what was handed over")
	published := make(chan error, 1)
	go func() {
		_, err := c.Publish(ctx, &Packet{RepoID: "a", Content: content})
		published <- err
	}()
	<-arrived
	cancel()
	if err := <-published; !errors.Is(err, context.Canceled) {
		t.Fatalf("publish returned %v, want %v", err, context.Canceled)
	}
	clear(content)
	close(resume)
	if err := c.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	if stored := r.Packets("a"); len(stored) != 1 || string(stored[0].Packet().GetContent()) != "what was handed over" || calls.Load() != 1 {
		t.Errorf("%d stored after %d calls, want what was handed over, once", len(stored), calls.Load())
	}
}

func TestPublishAsyncBlocksWhileTheWindowIsFull(t *testing.T) {
	release := make(chan struct{})
	r := relay(t, func(r *fakerelay.Relay) {
		r.OnFrame = func(int) error {
			<-release
			return nil
		}
	})
	c := dial(t, r, WithWindow(2))
	for range 2 {
		if err := c.PublishAsync(within(t), &Packet{RepoID: "a"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	if err := c.PublishAsync(ctx, &Packet{RepoID: "a"}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with a full window: %v, want %v", err, context.Canceled)
	}
	close(release)
	if err := c.PublishAsync(within(t), &Packet{RepoID: "a"}, nil); err != nil {
		t.Error(err)
	}
	if err := c.Flush(within(t)); err != nil {
		t.Error(err)
	}
}

func TestCloseEndsWhatIsOpen(t *testing.T) {
	arrived := make(chan struct{}, 1)
	r := relay(t, func(r *fakerelay.Relay) {
		r.OnPacket = func(*wire.Packet) *wire.ResultView {
			select {
			case arrived <- struct{}{}:
			default:
			}
			return &wire.ResultView{Code: "ACCEPT_UNKNOWN"}
		}
	})
	c := dial(t, r)
	var got error
	if err := c.PublishAsync(within(t), &Packet{RepoID: "a"}, func(_ Receipt, err error) { got = err }); err != nil {
		t.Fatal(err)
	}
	<-arrived
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(got, ErrClosed) || ErrorCode(got) != CodeUnknown {
		t.Errorf("callback with %v, want %v and %s", got, ErrClosed, CodeUnknown)
	}
	if err := c.PublishAsync(within(t), &Packet{RepoID: "a"}, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("publish on a closed client: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestGiveUp(t *testing.T) {
	r := relay(t, func(r *fakerelay.Relay) {
		r.OnPacket = func(*wire.Packet) *wire.ResultView {
			return &wire.ResultView{Code: CodeUnavailable, Message: "no leader"}
		}
	})
	c := dial(t, r, WithRetry(RetryPolicy{Min: time.Millisecond, Max: 5 * time.Millisecond, GiveUpAfter: 30 * time.Millisecond}))
	for packet, err := range load(t, c, 2, 5) {
		if ErrorCode(err) != CodeUnavailable {
			t.Errorf("%s: %v, want %s", packet, err, CodeUnavailable)
		}
	}
}

func TestPublishWithoutPosition(t *testing.T) {
	r := relay(t, func(r *fakerelay.Relay) {
		r.OnPacket = func(p *wire.Packet) *wire.ResultView {
			if p.HasPosition {
				return &wire.ResultView{Code: CodeInvalidArgument, Message: "a position"}
			}
			return nil
		}
		r.OnAnswer = func(frame int) error {
			if frame == 1 {
				return errors.New("lost")
			}
			return nil
		}
	})
	c := dial(t, r, WithoutPosition(), WithMaxFrame(2, 1<<20))
	var mu sync.Mutex
	outcomes := map[string]error{}
	for _, id := range []string{"", "id"} {
		err := c.PublishAsync(within(t), &Packet{RepoID: "a", PacketID: id}, func(_ Receipt, err error) {
			mu.Lock()
			defer mu.Unlock()
			outcomes[id] = err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	// Whether one frame or two: what was lost with the first has no id.
	if ErrorCode(outcomes[""]) != CodeUnknown || outcomes["id"] != nil {
		t.Errorf("outcomes %v, want %s without an id and a receipt with one", outcomes, CodeUnknown)
	}
	if n := len(r.Packets("a")); n != 2 {
		t.Errorf("%d packets stored, want 2", n)
	}
}

func TestPublishEndsWithFatalRefusal(t *testing.T) {
	r := relay(t, func(r *fakerelay.Relay) {
		r.OnOpen = func(string) error { return refused(CodeUnauthenticated) }
	})
	c := dial(t, r)
	if _, err := c.Publish(within(t), &Packet{RepoID: "a"}); ErrorCode(err) != CodeUnauthenticated {
		t.Errorf("publish returned %v, want %s", err, CodeUnauthenticated)
	}
}

func TestForgottenLanesGoOnUnderAHigherEpoch(t *testing.T) {
	r := relay(t, nil)
	c := dial(t, r)
	send := func(content string) {
		t.Helper()
		if _, err := c.Publish(within(t), &Packet{RepoID: "repo-0", Content: []byte("repo-0/" + content)}); err != nil {
			t.Fatal(err)
		}
	}
	send("1")
	send("2")
	p := c.shards[0]
	p.mu.Lock()
	p.evict() // used since the last one
	kept := len(p.lanes)
	p.evict()
	left := len(p.lanes)
	p.mu.Unlock()
	if kept != 1 || left != 0 {
		t.Fatalf("%d lanes after the first eviction, %d after the second", kept, left)
	}
	send("3")
	if got := contents(r, "repo-0"); !slices.Equal(got, numbers(1, 3)) {
		t.Errorf("stored %v", got)
	}
}

func TestFailover(t *testing.T) {
	r := relay(t, nil)
	opts := []Option{WithDialer(func(ctx context.Context, target string) (net.Conn, error) {
		if target != "good:1" {
			return nil, errors.New("refused")
		}
		return r.Dial(ctx, target)
	})}
	c, err := Dial(within(t), "bad:1,good:1", opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.WaitReady(within(t)); err != nil {
		t.Fatal(err)
	}
	for k := range 10 { // over both links
		if _, err := c.Publish(within(t), &Packet{RepoID: fmt.Sprint(k)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Lookup(within(t), "1", 1); err != nil {
		t.Error(err)
	}
	if _, err := c.Lookup(within(t), "1", 7); ErrorCode(err) != CodeNotFound {
		t.Errorf("lookup of an unknown packet: %v", err)
	}
}

func TestSmallFrameIsNotHeldForEver(t *testing.T) {
	r := relay(t, nil)
	c := dial(t, r)
	p := c.shards[0]
	if _, err := c.Publish(within(t), &Packet{RepoID: "a"}); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	for _, s := range p.pipes {
		s.ahead = maxAhead // as if frames were sent that nobody answers
	}
	p.mu.Unlock()
	if _, err := c.Publish(within(t), &Packet{RepoID: "a"}); err != nil {
		t.Error(err)
	}
}

func TestLingerGathers(t *testing.T) {
	r := relay(t, nil)
	c := dial(t, r, WithLinger(200*time.Millisecond))
	load(t, c, 1, 3)
	if frames, _ := r.Counts(); frames != 1 {
		t.Errorf("%d frames, want one for all that came while it lingered", frames)
	}
}
