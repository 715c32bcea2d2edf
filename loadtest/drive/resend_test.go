package drive

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/verify"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// fakeStream answers each packet as judge says; nil ends the stream.
type fakeStream struct {
	grpc.BidiStreamingClient[waystationv1.PublishStreamRequest, waystationv1.PublishStreamResponse]
	ctx     context.Context
	judge   func(*waystationv1.CodePacket) *waystationv1.PublishResult
	next    uint64
	answers chan *waystationv1.PublishStreamResponse
	broken  bool
}

func (s *fakeStream) Send(req *waystationv1.PublishStreamRequest) error {
	if s.broken {
		return errors.New("broken")
	}
	resp := &waystationv1.PublishStreamResponse{}
	for _, p := range req.GetPackets() {
		r := s.judge(p)
		if r == nil {
			s.broken = true
			close(s.answers)
			return nil
		}
		r.Index = s.next
		s.next++
		resp.Results = append(resp.Results, r)
	}
	s.answers <- resp
	return nil
}

func (s *fakeStream) Recv() (*waystationv1.PublishStreamResponse, error) {
	select {
	case resp, ok := <-s.answers:
		if !ok {
			return nil, errors.New("broken")
		}
		return resp, nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

func (f *fakeAPI) PublishStream(ctx context.Context, _ ...grpc.CallOption) (grpc.BidiStreamingClient[waystationv1.PublishStreamRequest, waystationv1.PublishStreamResponse], error) {
	s, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	s.ctx, s.answers = ctx, make(chan *waystationv1.PublishStreamResponse, 16)
	return s, nil
}

func TestResendByPosition(t *testing.T) {
	receipt := func(number uint64, duplicate bool) *waystationv1.PublishResult {
		return &waystationv1.PublishResult{Receipt: &waystationv1.Receipt{Sequence: number, Duplicate: duplicate}}
	}
	refusal := func(code string) *waystationv1.PublishResult {
		return &waystationv1.PublishResult{Error: &waystationv1.Error{Code: code}}
	}
	for _, tc := range []struct {
		name    string
		judge   func(try int, p *waystationv1.CodePacket) *waystationv1.PublishResult
		want    verify.Totals
		refused int64
		tries   int
	}{
		{
			"the same number", func(_ int, p *waystationv1.CodePacket) *waystationv1.PublishResult {
				return receipt(p.GetPosition().GetSequence(), true)
			}, verify.Totals{Sent: 1, Acked: 1, Settled: 0, Deduplicated: 1}, 0, 1,
		},
		{
			"another number", func(int, *waystationv1.CodePacket) *waystationv1.PublishResult {
				return receipt(2, true)
			}, verify.Totals{Sent: 1, Acked: 1, Deduplicated: 1, Duplicated: 1}, 0, 1,
		},
		{
			"refused for load, and the stream breaks: once more", func(try int, _ *waystationv1.CodePacket) *waystationv1.PublishResult {
				return []*waystationv1.PublishResult{refusal(client.CodeResourceExhausted), nil, receipt(1, true)}[try]
			}, verify.Totals{Sent: 1, Acked: 1, Deduplicated: 1}, 0, 3,
		},
		{
			"refused for good", func(int, *waystationv1.CodePacket) *waystationv1.PublishResult {
				return refusal(client.CodeFenced)
			}, verify.Totals{Sent: 1, Acked: 1}, 1, 1,
		},
		{
			"refused again and again", func(int, *waystationv1.CodePacket) *waystationv1.PublishResult {
				return refusal(client.CodeGap)
			}, verify.Totals{Sent: 1, Acked: 1}, 1, resendTries,
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			judge := func(p *waystationv1.CodePacket) *waystationv1.PublishResult {
				tries++
				if at := p.GetPosition(); at.GetProducer() != "p" || at.GetEpoch() != 1 || at.GetSequence() != 1 || p.GetRepoId() != "a" {
					t.Errorf("resent %v", p)
				}
				return tc.judge(tries-1, p)
			}
			v := verify.New(1)
			v.Send(0, 0)
			v.Ack(0, 0, 1, false)
			v.Found(0, 0, 1)
			p := &publisher{verifier: v}
			p.slots.window = 1
			p.slots.fill(p)
			s := p.slots.take(t.Context())[0]
			s.packet.RepoID = "a"
			s.holders.Store(1)
			api := &fakeAPI{open: func(context.Context) (*fakeStream, error) { return &fakeStream{judge: judge}, nil }}
			b := &byPosition{resendQueue: newResendQueue(1), direct: &direct{apis: []waystationv1.WaystationClient{api}}, producer: "p"}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			ended := make(chan error, 1)
			go func() { ended <- b.run(ctx) }()
			b.again(s)
			// The slot comes back once the resend is over.
			if p.slots.take(ctx) == nil {
				t.Error("the slot is lost")
			}
			b.settle(ctx)
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if got := v.Totals(false); got != tc.want || b.refused.Load() != tc.refused || tries != tc.tries {
				t.Errorf("%s: %d tries, %d refused\n got %+v\nwant %+v", tc.name, tries, b.refused.Load(), got, tc.want)
			}
		})
	}
}
