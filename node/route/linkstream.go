package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// How long a link rests after a stream that failed, at first and at most.
const (
	restMin = 20 * time.Millisecond
	restMax = 500 * time.Millisecond
)

var errSilent = errors.New("nothing was answered for too long")

// run opens a stream whenever there is something to send.
func (l *link) run() {
	defer close(l.ended)
	rest := restMin
	for {
		select {
		case <-l.wake:
		case <-l.ctx.Done():
			l.lost(0)
			return
		}
		answered, err := l.stream()
		if answered {
			rest = restMin
		}
		if l.ctx.Err() == nil {
			l.r.log.Info("forwarding stream ended", slog.String("node", l.node.ID), slog.Any("error", err))
		}
		l.lost(rest)
		rest = min(2*rest, restMax)
	}
}

var streamDesc = &waystationv1.Waystation_ServiceDesc.Streams[0] // PublishStream

// stream sends what comes until the stream breaks, and says whether anything was
// answered.
func (l *link) stream() (answered bool, err error) {
	conn, err := l.r.conns.Conn(l.node.PeerAddr)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancelCause(l.ctx)
	defer cancel(nil)
	s, err := conn.NewStream(ctx, streamDesc, waystationv1.Waystation_PublishStream_FullMethodName, l.r.callOption)
	if err != nil {
		return false, fmt.Errorf("open stream: %w", err)
	}
	watch := l.watch(cancel)
	defer watch.Stop()
	broken := make(chan struct{})
	var received error
	go func() {
		defer close(broken)
		answered, received = l.receive(s)
	}()
	l.send(s, broken)
	<-broken
	if errors.Is(context.Cause(ctx), errSilent) {
		return answered, errSilent
	}
	return answered, received
}

func (l *link) send(s grpc.ClientStream, broken <-chan struct{}) {
	hold := time.NewTimer(maxHold)
	defer hold.Stop()
	holding, waited := false, false
	for {
		f, held := l.take(waited)
		if f == nil {
			if held && !holding {
				hold.Reset(maxHold) // from the first packet on
			}
			holding, waited = held, false
			var over <-chan time.Time
			if held {
				over = hold.C
			}
			select {
			case <-l.wake:
			case <-over:
				waited = true
			case <-broken:
				return
			}
			continue
		}
		holding, waited = false, false
		buf := f.buf
		if err := s.SendMsg(&codec.Raw{Bytes: *buf, Release: func() { l.r.buffers.Put(buf) }}); err != nil {
			return // the receiver learns why
		}
	}
}

// receive hands answers on until the stream ends.
func (l *link) receive(s grpc.ClientStream) (answered bool, err error) {
	var raw codec.Raw
	var out answers
	for {
		if err := s.RecvMsg(&raw); err != nil {
			return answered, err
		}
		if err := l.answer(raw.Bytes, &out); err != nil {
			return answered, err
		}
		answered = true
	}
}

// answer takes one message of answers.
func (l *link) answer(message []byte, out *answers) error {
	var suspects []repository.PartitionID
	l.mu.Lock()
	l.asked = time.Now()
	l.ahead = 0
	strange := false
	err := wire.WalkResults(message, func(ordinal uint64, v *wire.ResultView) bool {
		if strange = ordinal >= l.sent; strange {
			return false
		}
		s, ok := l.slots.take(ordinal)
		if !ok {
			return true // answered as unknown before
		}
		l.release(&s)
		r := actors.PublishResult{
			Index: s.index, Repo: v.Repo, ID: v.ID, Seq: repository.Seq(v.Sequence), Duplicate: v.Duplicate, ContentDiffers: v.ContentDiffers,
		}
		if v.Code != "" {
			r.Refusal = &actors.Refusal{
				Code: v.Code, Field: v.Field, Message: v.Message,
				RetryAfter: time.Duration(v.RetryAfterMs) * time.Millisecond, Expected: v.Expected,
				Leader: l.r.elsewhere(s.partition, l.node.ID),
			}
			if n := len(suspects); v.Code == actors.CodeUnavailable && (n == 0 || suspects[n-1] != s.partition) {
				suspects = append(suspects, s.partition)
			}
		}
		out.add(s.sink, r)
		return true
	})
	l.nudge()
	l.mu.Unlock()
	out.give()
	for _, p := range suspects {
		l.r.cluster.Suspect(p, l.node.ID)
	}
	if strange {
		return errors.New("an answer to a packet that was not sent")
	}
	return err
}

// watch ends a stream whose node answers nothing any more.
func (l *link) watch(cancel context.CancelCauseFunc) *time.Timer {
	limit := l.r.cfg.AnswerTimeout
	var t *time.Timer
	ready := make(chan struct{})
	t = time.AfterFunc(limit, func() {
		<-ready
		l.mu.Lock()
		left := limit
		if l.slots.open > 0 {
			left = limit - time.Since(l.asked)
		}
		l.mu.Unlock()
		if left <= 0 {
			cancel(errSilent)
			return
		}
		t.Reset(left)
	})
	close(ready)
	return t
}
