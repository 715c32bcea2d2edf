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
// It talks to one node at a time, and to the next one after a failure. It is the
// only place of the load test that knows gRPC.
type direct struct {
	conns []*grpc.ClientConn
	apis  []waystationv1.WaystationClient // one for each
	at    atomic.Uint32
}

func dialDirect(targets string) (*direct, error) {
	params := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
		MinConnectTimeout: time.Second,
	}
	d := &direct{}
	for target := range strings.SplitSeq(targets, ",") {
		// A node that was killed is back within seconds: one that is not there is no
		// reason to wait, as there are others.
		conn, err := grpc.NewClient("passthrough:///"+strings.TrimSpace(target), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(params), grpc.WithDefaultCallOptions(grpc.WaitForReady(false)))
		if err != nil {
			d.close()
			return nil, fmt.Errorf("dial %s: %w", target, err)
		}
		d.conns = append(d.conns, conn)
		d.apis = append(d.apis, waystationv1.NewWaystationClient(conn))
	}
	return d, nil
}

// api is the node to talk to, and what to give to failed if it does not answer.
func (d *direct) api() (waystationv1.WaystationClient, uint32) {
	at := d.at.Load()
	return d.apis[int(at)%len(d.apis)], at
}

// failed turns to the next node, unless somebody did.
func (d *direct) failed(at uint32) { d.at.CompareAndSwap(at, at+1) }

func (d *direct) close() {
	for _, c := range d.conns {
		_ = c.Close()
	}
}

// directStream is a PublishStream whose answers come through a channel, which is
// closed when the stream ends.
type directStream struct {
	stream  grpc.BidiStreamingClient[waystationv1.PublishStreamRequest, waystationv1.PublishStreamResponse]
	results chan []*waystationv1.PublishResult
	cancel  context.CancelFunc
	// failed turns to the next node.
	failed func()
}

func (d *direct) publishStream(ctx context.Context) (*directStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	api, at := d.api()
	stream, err := api.PublishStream(ctx)
	if err != nil {
		cancel()
		d.failed(at)
		return nil, fmt.Errorf("open stream: %w", err)
	}
	s := &directStream{stream: stream, results: make(chan []*waystationv1.PublishResult), cancel: cancel, failed: func() { d.failed(at) }}
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
	api, at := p.direct.api()
	resp, err := api.Settle(ctx, &waystationv1.SettleRequest{
		Group: p.group,
		Settlements: []*waystationv1.Settlement{{
			RepoId: d.RepoID, Sequence: d.Sequence, LeaseToken: oldToken, Outcome: waystationv1.Outcome_DONE,
		}},
	})
	if err != nil {
		p.direct.failed(at)
		return false
	}
	if len(resp.GetResults()) != 1 {
		return false
	}
	p.tried.Add(1)
	if resp.GetResults()[0].GetError() != nil {
		return false
	}
	p.taken.Add(1)
	return true
}
