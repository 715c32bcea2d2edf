package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

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
	// lives refuses what it cannot take at once, and one that lost its majority or
	// its leader says so within about a second.
	answerSoon = 2 * time.Second
)

var (
	errSilent   = errors.New("no answer for too long")
	errStranger = errors.New("the address is that of another cluster's node")
)

// run serves one stream from its beginning to its end.
func (s *pipe) run() {
	answered, err := s.stream()
	s.ended(answered, err)
}

// stream opens a stream and sends on it until it breaks. It says whether any
// answer came.
func (s *pipe) stream() (answered bool, err error) {
	c := s.p.c
	conn, err := s.p.link.connTo(s.addr)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	stream, err := waystationv1.NewWaystationClient(conn).PublishStream(ctx)
	if err != nil {
		return false, fromStatus(ctx, err)
	}
	s.opened()
	c.use()
	watch := s.watch(cancel)
	defer watch.Stop()
	var received error
	broken := make(chan struct{})
	go func() {
		defer close(broken)
		answered, received = s.receive(stream, watch)
		cancel(received) // where the stream itself did not end
	}()
	s.send(stream, broken)
	<-broken
	if errors.Is(context.Cause(ctx), errSilent) {
		received = errSilent
	}
	if errors.Is(received, errStranger) {
		return answered, received
	}
	return answered, fromStatus(c.ctx, received)
}

// send sends what gathers, until the stream breaks or the client is closed.
func (s *pipe) send(stream grpc.ClientStream, broken <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var f frame
	var sent uint64
	for s.await(&f, timer, broken) {
		sent += uint64(len(f.tries))
		s.sent.Store(sent)
		if stream.SendMsg(f.raw) != nil {
			return // it ended the stream, and only the receiver learns why
		}
		clear(f.tries)
		f.tries, f.bytes, f.raw = f.tries[:0], 0, nil
	}
}

// encodeFrame writes a frame into a buffer that goes back to the pool when gRPC
// has sent it. The caller holds p.encode.
func (p *publisher) encodeFrame(f *frame) *codec.Raw {
	buf := p.c.pool.Get(f.bytes)
	b := (*buf)[:0]
	for i := range f.tries {
		t := &f.tries[i]
		fields := &t.Payload.fields
		fields.Epoch, fields.Sequence = t.Epoch, t.Sequence
		b = wire.AppendFramePacket(b, fields)
	}
	*buf = b
	return &codec.Raw{Bytes: b, Release: func() { p.c.pool.Put(buf) }}
}

// receive takes answers until the stream ends.
func (s *pipe) receive(stream grpc.ClientStream, watch *time.Timer) (answered bool, err error) {
	var raw codec.Raw
	var results []result
	var routes []byte
	var done []completion
	for {
		if err := stream.RecvMsg(&raw); err != nil {
			return answered, err
		}
		watch.Reset(s.patience())
		if results, routes, err = parseResults(results[:0], raw.Bytes); err != nil {
			return answered, err
		}
		answered = answered || len(results) > 0
		sent := s.sent.Load()
		for i := range results {
			if results[i].index >= sent {
				return answered, fmt.Errorf("answer to packet %d of the stream, of %d sent", results[i].index, sent)
			}
		}
		if len(results) > 0 {
			done = s.answers(results, done[:0])
			s.p.complete(done)
			clear(done)
		}
		if routes != nil {
			if err := s.told(routes); err != nil {
				return answered, err
			}
		}
	}
}

// told takes in who leads what, as the node at the other end knows.
func (s *pipe) told(routes []byte) error {
	var r waystationv1.Routes
	if err := proto.Unmarshal(routes, &r); err != nil {
		return fmt.Errorf("parse routes: %w", err)
	}
	if !valid(&r) {
		return nil // it forwards all the same
	}
	if !s.p.c.chart(&r, s.given) {
		return errStranger
	}
	s.identified(r.GetClusterId(), r.GetNodeId())
	return nil
}

// watch ends a stream on which nothing is answered any more.
func (s *pipe) watch(cancel context.CancelCauseFunc) *time.Timer {
	var t *time.Timer
	t = time.AfterFunc(time.Hour, func() {
		s.p.mu.Lock()
		silent := s.slots.Len() > 0
		limit := s.patience()
		left := limit - time.Since(s.asked)
		s.p.mu.Unlock()
		switch {
		case silent && left <= 0:
			cancel(errSilent)
		case silent:
			t.Reset(left)
		default:
			t.Reset(limit)
		}
	})
	t.Reset(s.patience())
	return t
}

// patience is how long a stream may be silent.
func (s *pipe) patience() time.Duration {
	if s.p.link.several() {
		return s.p.c.cfg.answerSoon
	}
	return answerTimeout
}

// await blocks until there is something to send, which it gathers into f. It
// returns false once the stream broke or the client is closed.
func (s *pipe) await(f *frame, timer *time.Timer, broken <-chan struct{}) bool {
	for waited := false; ; {
		wait, lingers, has := s.look(f, waited)
		if has {
			return true
		}
		wakeup := s.wakeup
		if lingers {
			wakeup = nil // what comes meanwhile is what it waits for
		}
		var over <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			over = timer.C
		}
		select {
		case <-wakeup:
		case <-over:
			waited = true
		case <-broken:
			return false
		case <-s.p.c.ctx.Done():
			return false
		}
	}
}

// look gathers and encodes if there is anything.
func (s *pipe) look(f *frame, waited bool) (wait time.Duration, lingers, has bool) {
	s.p.encode.RLock()
	defer s.p.encode.RUnlock()
	if wait, lingers, has = s.fill(f, waited); has {
		f.raw = s.p.encodeFrame(f)
	}
	return wait, lingers, has
}

// fill gathers if there is anything, and a small frame only if it waited. Otherwise
// it says how long to sleep at most, 0 for without an end, and whether that is the
// linger.
func (s *pipe) fill(f *frame, waited bool) (wait time.Duration, lingers, has bool) {
	cfg := &s.p.c.cfg
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	switch {
	case s.ready.head == nil, !s.usable():
	case !waited && cfg.linger > 0 && s.fresh < cfg.framePackets:
		wait, lingers = cfg.linger, true
	case !waited && s.ahead >= maxAhead && s.fresh < minFrame:
		wait = maxHold
	default:
		if s.slots.Len() == 0 {
			s.asked = time.Now()
		}
		s.gather(f)
		if has = len(f.tries) > 0; has {
			s.ahead++
		}
	}
	s.idle = !has
	return wait, lingers, has
}

// blame: the relay ended the stream because of something in it. Sent alone, the
// packet that it does not bear shows itself and ends with the relay's error.
func (p *publisher) blame(s *pipe, err error, done []completion) []completion {
	if !p.isolate {
		p.isolate = s.slots.Len() > 0
		return done
	}
	var at *slot
	s.slots.Each(func(t slot) { at = &t })
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
