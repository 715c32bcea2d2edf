package drive

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/waystation/waystation/client"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// direct speaks the wire protocol by itself, for what the client library rightly
// offers nobody: a position that was used before, a lease that has passed on.
// It is the only place of the load test that knows gRPC.
type direct struct {
	conn *grpc.ClientConn
	api  waystationv1.WaystationClient
}

func dialDirect(targets string) (*direct, error) {
	target, _, _ := strings.Cut(targets, ",")
	// A node that was killed is back within a second, so try often.
	params := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
		MinConnectTimeout: time.Second,
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(params), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", target, err)
	}
	return &direct{conn: conn, api: waystationv1.NewWaystationClient(conn)}, nil
}

func (d *direct) close() { _ = d.conn.Close() }

// directStream is a PublishStream whose answers come through a channel, which is
// closed when the stream ends.
type directStream struct {
	stream  grpc.BidiStreamingClient[waystationv1.PublishStreamRequest, waystationv1.PublishStreamResponse]
	results chan []*waystationv1.PublishResult
	cancel  context.CancelFunc
}

func (d *direct) publishStream(ctx context.Context) (*directStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := d.api.PublishStream(ctx)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open stream: %w", err)
	}
	s := &directStream{stream: stream, results: make(chan []*waystationv1.PublishResult), cancel: cancel}
	go s.receive(ctx)
	return s, nil
}

func (s *directStream) receive(ctx context.Context) {
	defer close(s.results)
	for {
		resp, err := s.stream.Recv()
		if err != nil {
			return
		}
		select {
		case s.results <- resp.GetResults():
		case <-ctx.Done():
			return
		}
	}
}

func (s *directStream) send(packets []*waystationv1.CodePacket) error {
	if err := s.stream.Send(&waystationv1.PublishStreamRequest{Packets: packets}); err != nil {
		return fmt.Errorf("send frame: %w", err)
	}
	return nil
}

// close ends the stream and waits for its goroutine.
func (s *directStream) close() {
	s.cancel()
	for range s.results { //nolint:revive // until it is closed
	}
}

// probe tries now and then whether a lease that has passed on is refused.
type probe struct {
	direct *direct
	group  string
	next   atomic.Int64
	// tried and taken count settlements with an old token, and those that were accepted.
	tried, taken atomic.Int64
}

const (
	probeEvery   = 50 * time.Millisecond
	probeTimeout = 2 * time.Second
)

// due says whether it is time for another try, to one caller only.
func (p *probe) due(now time.Duration) bool {
	next := p.next.Load()
	return int64(now) >= next && p.next.CompareAndSwap(next, int64(now+probeEvery))
}

// accepted settles a delivery, whose lease is held just now under a newer token,
// with an old one, and says whether the relay took it.
func (p *probe) accepted(ctx context.Context, d *client.Delivery, oldToken uint64) bool {
	// The client ends the connection's retries only with the context.
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	resp, err := p.direct.api.Settle(ctx, &waystationv1.SettleRequest{
		Group: p.group,
		Settlements: []*waystationv1.Settlement{{
			RepoId: d.RepoID, Sequence: d.Sequence, LeaseToken: oldToken, Outcome: waystationv1.Outcome_DONE,
		}},
	})
	if err != nil || len(resp.GetResults()) != 1 {
		return false
	}
	p.tried.Add(1)
	if resp.GetResults()[0].GetError() != nil {
		return false
	}
	p.taken.Add(1)
	return true
}
