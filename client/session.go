package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/waystation/waystation/client/internal/order"
	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

const (
	// A small frame is held back while maxAhead frames have no answer: their
	// answers come in a moment and bring packets with them. Without that, a sender
	// that is quicker than its callers makes a frame of each packet, which costs
	// three times as much on both sides.
	maxAhead = 4
	minFrame = 64
	// maxHold ends that, as the frames ahead may all wait for one partition, which
	// is no business of the other repositories.
	maxHold = 2 * time.Millisecond
	// answerTimeout ends a stream on which something was sent and nothing is
	// answered, neither accepted nor refused. Above any wait for a leader.
	answerTimeout = 30 * time.Second
	// answerSoon is the same where there is another node to go on at: one that
	// lives refuses what it cannot take at once.
	answerSoon = 5 * time.Second
)

var errSilent = errors.New("no answer for too long")

// run sends until the client is closed: one stream after the other.
func (p *publisher) run() {
	defer close(p.stopped)
	p.timer = time.NewTimer(time.Hour)
	defer p.timer.Stop()
	for failures := 1; p.await(nil, nil); failures++ {
		answered, err := p.stream()
		if p.c.ctx.Err() != nil {
			break
		}
		if answered {
			failures = 1
		}
		p.c.cfg.logger.Info("publish stream ended", "error", err, "failures", failures)
		p.lost(err, answered)
		if pause(p.c.ctx, p.c.cfg.retry.reconnect(failures, err)) != nil {
			break
		}
	}
	p.endAll()
}

// stream opens a stream and sends on it until it breaks. It says whether any
// answer came.
func (p *publisher) stream() (answered bool, err error) {
	conn, target, err := p.link.conn()
	if err != nil {
		return false, err
	}
	defer func() {
		if err != nil {
			p.link.failed(target)
		}
	}()
	ctx, cancel := context.WithCancelCause(p.c.ctx)
	defer cancel(nil)
	s, err := waystationv1.NewWaystationClient(conn).PublishStream(ctx)
	if err != nil {
		return false, fromStatus(ctx, err)
	}
	p.sent.Store(0)
	p.c.use()
	watch := p.watch(cancel)
	defer watch.Stop()
	var received error
	broken := make(chan struct{})
	go func() {
		defer close(broken)
		answered, received = p.receive(s, watch)
	}()
	p.send(s, broken)
	<-broken
	if errors.Is(context.Cause(ctx), errSilent) {
		received = errSilent
	}
	return answered, fromStatus(p.c.ctx, received)
}

// send sends what gathers, until the stream breaks or the client is closed.
func (p *publisher) send(s grpc.ClientStream, broken <-chan struct{}) {
	var f frame
	var sent uint64
	for p.await(&f, broken) {
		raw := p.encodeFrame(&f)
		sent += uint64(len(f.tries))
		p.sent.Store(sent)
		if s.SendMsg(raw) != nil {
			return // it ended the stream, and only the receiver learns why
		}
		clear(f.tries)
		f.tries, f.bytes = f.tries[:0], 0
	}
}

// encodeFrame writes a frame into a buffer that goes back to the pool when gRPC
// has sent it.
func (p *publisher) encodeFrame(f *frame) *codec.Raw {
	buf := p.c.pool.Get(f.bytes)
	b := (*buf)[:0]
	p.encode.Lock()
	for i := range f.tries {
		t := &f.tries[i]
		fields := &t.Payload.fields
		fields.Epoch, fields.Sequence = t.Epoch, t.Sequence
		b = wire.AppendFramePacket(b, fields)
	}
	p.encode.Unlock()
	*buf = b
	return &codec.Raw{Bytes: b, Release: func() { p.c.pool.Put(buf) }}
}

// receive takes answers until the stream ends.
func (p *publisher) receive(s grpc.ClientStream, watch *time.Timer) (answered bool, err error) {
	var raw codec.Raw
	var results []result
	var done []completion
	for {
		if err := s.RecvMsg(&raw); err != nil {
			return answered, err
		}
		watch.Reset(p.patience())
		if results, err = parseResults(results[:0], raw.Bytes); err != nil {
			return answered, err
		}
		answered = answered || len(results) > 0
		sent := p.sent.Load()
		for i := range results {
			if results[i].index >= sent {
				return answered, fmt.Errorf("answer to packet %d of the stream, of %d sent", results[i].index, sent)
			}
		}
		done = p.answers(results, done[:0])
		p.complete(done)
		clear(done)
	}
}

// watch ends a stream on which nothing is answered any more.
func (p *publisher) watch(cancel context.CancelCauseFunc) *time.Timer {
	var t *time.Timer
	t = time.AfterFunc(time.Hour, func() {
		p.mu.Lock()
		silent := p.slots.Len() > 0
		limit := p.patience()
		left := limit - time.Since(p.asked)
		p.mu.Unlock()
		switch {
		case silent && left <= 0:
			cancel(errSilent)
		case silent:
			t.Reset(left)
		default:
			t.Reset(limit)
		}
	})
	t.Reset(p.patience())
	return t
}

// patience is how long a stream may be silent.
func (p *publisher) patience() time.Duration {
	if p.link.several() {
		return p.c.cfg.answerSoon
	}
	return answerTimeout
}

// await blocks until there is something to send, which it gathers into f unless
// that is nil. It returns false once the stream broke or the client is closed.
func (p *publisher) await(f *frame, broken <-chan struct{}) bool {
	for waited := false; ; {
		wait, lingers, has := p.look(f, waited)
		if has {
			return true
		}
		wakeup := p.wakeup
		if lingers {
			wakeup = nil // what comes meanwhile is what it waits for
		}
		if g := p.c.cfg.retry.GiveUpAfter; g > 0 && (wait == 0 || wait > g/4) {
			wait = max(g/4, time.Millisecond)
		}
		var over <-chan time.Time
		if wait > 0 {
			p.timer.Reset(wait)
			over = p.timer.C
		}
		select {
		case <-wakeup:
		case <-over:
			waited = true
			p.giveUpOld()
		case <-broken:
			return false
		case <-p.c.ctx.Done():
			return false
		}
	}
}

// look gathers if there is anything, and a small frame only if it waited.
// Otherwise it says how long to sleep at most, 0 for without an end, and whether
// that is the linger.
func (p *publisher) look(f *frame, waited bool) (wait time.Duration, lingers, has bool) {
	var done []completion
	p.mu.Lock()
	if len(p.delayed) > 0 {
		wait, done = p.resume(time.Now(), done)
	}
	switch {
	case f == nil:
		has = p.ready.head != nil
	case p.ready.head == nil:
	case !waited && p.c.cfg.linger > 0 && p.fresh < p.c.cfg.framePackets:
		wait, lingers = p.c.cfg.linger, true
	case !waited && p.ahead >= maxAhead && p.fresh < minFrame:
		wait = maxHold
	default:
		if p.slots.Len() == 0 {
			p.asked = time.Now()
		}
		p.gather(f)
		has = len(f.tries) > 0
		if has {
			p.ahead++
		}
	}
	p.idle = !has
	p.mu.Unlock()
	p.complete(done)
	return wait, lingers, has
}

func (p *publisher) giveUpOld() {
	g := p.c.cfg.retry.GiveUpAfter
	if g == 0 {
		return
	}
	now := time.Now()
	p.giveUp(func(it *item) bool { return now.Sub(it.since) > g })
}

// lost takes the end of a stream in: what has no answer may be accepted or not.
// A stream that was refused as a whole accepted nothing.
func (p *publisher) lost(err error, answered bool) {
	p.mu.Lock()
	var done []completion
	if ErrorCode(err) == CodeInvalidArgument {
		done = p.blame(err, done)
	}
	refused := fatal(err) && !answered
	seen := make(map[*lane]bool)
	p.slots.Each(func(s slot) {
		seen[s.lane] = true
		if refused {
			s.lane.Answer(s.key, order.Answer{Verdict: order.Away})
		}
	})
	p.slots.Reset()
	p.ahead = 0
	for l := range seen {
		l.Lost()
		done = p.advance(l, done)
	}
	p.mu.Unlock()
	p.complete(done)
	if fatal(err) {
		p.refuseAll(err)
	}
	p.giveUpOld()
}

// blame: the relay ended the stream because of something in it. Sent alone, the
// packet that it does not bear shows itself and ends with the relay's error.
func (p *publisher) blame(err error, done []completion) []completion {
	if !p.isolate {
		p.isolate = p.slots.Len() > 0
		return done
	}
	var at *slot
	p.slots.Each(func(s slot) { at = &s })
	if at == nil {
		return done
	}
	p.isolate = false
	if it, over := at.lane.Answer(at.key, order.Answer{Verdict: order.Refused}); over {
		done = append(done, p.finish(it, Receipt{}, err))
		done = p.advance(at.lane, done)
	}
	return done
}

// refuseAll ends everything that waits with an error that another try cannot mend.
func (p *publisher) refuseAll(err error) {
	var e *Error
	_ = errors.As(err, &e)
	p.giveUp(func(it *item) bool {
		it.last = e
		return true
	})
}

// endAll ends everything, as the client is closed.
func (p *publisher) endAll() {
	p.mu.Lock()
	var done []completion
	for _, l := range p.lanes {
		l.Stop()
		done = p.ended(l, done)
	}
	p.slots.Reset()
	p.mu.Unlock()
	p.complete(done)
}

// close waits for the end of the sender; the client's context has ended before.
func (p *publisher) close() {
	p.mu.Lock()
	p.closed = true
	begun := p.begun
	p.mu.Unlock()
	if begun {
		<-p.stopped
	}
}
