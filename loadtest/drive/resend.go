package drive

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/waystation/waystation/client"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// answeredAgain takes the answer to a resend.
func (s *slot) answeredAgain(r client.Receipt, err error) {
	if err == nil {
		s.p.verifier.Ack(s.repo, s.index, r.Sequence, r.Duplicate)
	}
	s.release()
}

// resendQueue is what both ways of resending share: the packets that wait for
// it, and how many have no answer yet. It has room for every slot.
type resendQueue struct {
	queue   chan *slot
	waiting atomic.Int64
	// refused counts resends that were given up, lastRefusal says why.
	refused     atomic.Int64
	lastRefusal atomic.Pointer[string]
}

func newResendQueue(slots int) *resendQueue { return &resendQueue{queue: make(chan *slot, slots)} }

func (q *resendQueue) again(s *slot) {
	q.waiting.Add(1)
	q.queue <- s
}

// answer ends a resend.
func (q *resendQueue) answer(s *slot, r client.Receipt, err error) {
	if err != nil {
		q.refused.Add(1)
		text := err.Error()
		q.lastRefusal.Store(&text)
	}
	s.resent(r, err)
	q.waiting.Add(-1)
}

// settle waits until nothing waits for an answer, or ctx ends.
func (q *resendQueue) settle(ctx context.Context) {
	for q.waiting.Load() > 0 && sleep(ctx, 5*time.Millisecond) {
	}
}

// byID resends through the client: behind its first copy, in the same lane, so
// that it can never come before the packets that were sent before that one.
type byID struct {
	*resendQueue
	sender Sender
}

func (b *byID) run(ctx context.Context) error {
	for {
		select {
		case s := <-b.queue:
			done := func(r client.Receipt, err error) { b.answer(s, r, err) }
			if err := b.sender.PublishAsync(ctx, &s.packet, done); err != nil {
				b.answer(s, client.Receipt{}, err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// byPosition resends over a stream of its own, as a client would that has lost
// its connection: with the position that the first copy has. The two may race;
// whichever comes first, both must get one number.
type byPosition struct {
	*resendQueue
	direct   *direct
	producer string
}

const (
	// firstEpoch is that of a producer name nobody has opened before.
	firstEpoch   = 1
	resendFrame  = 64
	resendTries  = 400
	resendPause  = 50 * time.Millisecond
	resendAtOnce = 256
	// resendPatience is how long a node may answer nothing before the next one is asked.
	resendPatience = time.Second
)

// run resends until ctx ends, over one stream after the other.
func (b *byPosition) run(ctx context.Context) error {
	for ctx.Err() == nil {
		b.session(ctx)
		sleep(ctx, resendPause)
	}
	return nil
}

// session uses one stream until it breaks; what has no answer then waits again.
func (b *byPosition) session(ctx context.Context) {
	stream, err := b.direct.publishStream(ctx)
	if err != nil {
		return
	}
	defer stream.close()
	var next uint64
	inFlight := make(map[uint64]*slot)
	defer func() {
		for _, s := range inFlight {
			b.later(ctx, s, errStreamEnded)
		}
	}()
	heard, silence := time.Now(), time.NewTicker(resendPatience/2)
	defer silence.Stop()
	for {
		var queue chan *slot
		if len(inFlight) < resendAtOnce {
			queue = b.queue
		}
		select {
		case <-silence.C:
			if len(inFlight) > 0 && time.Since(heard) > resendPatience {
				stream.failed()
				return
			}
		case s := <-queue:
			if len(inFlight) == 0 {
				heard = time.Now()
			}
			frame := b.frame(s)
			for _, s := range frame {
				inFlight[next] = s
				next++
			}
			if stream.send(b.encode(frame)) != nil {
				stream.failed()
				return
			}
		case results, ok := <-stream.results:
			if !ok {
				stream.failed()
				return
			}
			heard = time.Now()
			for _, r := range results {
				if s := inFlight[r.GetIndex()]; s != nil {
					delete(inFlight, r.GetIndex())
					b.take(ctx, s, r)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// frame takes what else waits, up to a frame's worth.
func (b *byPosition) frame(first *slot) []*slot {
	frame := []*slot{first}
	for len(frame) < resendFrame {
		select {
		case s := <-b.queue:
			frame = append(frame, s)
		default:
			return frame
		}
	}
	return frame
}

func (b *byPosition) encode(frame []*slot) []*waystationv1.CodePacket {
	packets := make([]*waystationv1.CodePacket, len(frame))
	for i, s := range frame {
		packets[i] = &waystationv1.CodePacket{
			RepoId: s.packet.RepoID, Content: s.packet.Content, Metadata: s.packet.Metadata,
			Position: &waystationv1.Position{
				Producer: b.producer, Epoch: firstEpoch, Sequence: uint64(s.index) + 1,
			},
		}
	}
	return packets
}

func (b *byPosition) take(ctx context.Context, s *slot, r *waystationv1.PublishResult) {
	receipt, failure := r.GetReceipt(), r.GetError()
	if failure == nil {
		b.answer(s, client.Receipt{Sequence: receipt.GetSequence(), Duplicate: receipt.GetDuplicate()}, nil)
		return
	}
	err := &client.Error{Code: failure.GetCode(), Field: failure.GetField(), Message: failure.GetMessage()}
	if err.Retriable() {
		b.later(ctx, s, err)
	} else {
		b.answer(s, client.Receipt{}, err)
	}
}

var errStreamEnded = &client.Error{Code: client.CodeUnavailable, Message: "the stream ended"}

// later tries again after a while, a few times.
func (b *byPosition) later(ctx context.Context, s *slot, err error) {
	s.tries++
	if s.tries >= resendTries || ctx.Err() != nil {
		b.answer(s, client.Receipt{}, fmt.Errorf("resend: %w", err))
		return
	}
	// The queue has room for every slot.
	time.AfterFunc(resendPause, func() { b.queue <- s })
}
