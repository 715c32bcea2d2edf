package client

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// maxRequest bounds one WorkRequest, in bytes, but for a single settlement.
const maxRequest = 1 << 20

// session opens a stream and works on it until it breaks or all is done. It says
// whether the relay was ready.
func (w *worker) session() (ready bool, err error) {
	conn, target, err := w.link.conn()
	if err != nil {
		return false, err
	}
	w.c.use()
	defer func() {
		if !errors.Is(err, errDrained) {
			w.link.failed(target)
		}
	}()
	ctx, cancel := context.WithCancelCause(w.c.ctx)
	defer cancel(nil)
	s, err := waystationv1.NewWaystationClient(conn).Work(ctx)
	if err != nil {
		return false, fromStatus(ctx, err)
	}
	credit := w.opened()
	_ = s.Send(&waystationv1.WorkRequest{Open: &waystationv1.WorkOpen{
		Group: w.cfg.group, Worker: w.cfg.name, LeaseMs: clampU32(int(w.cfg.lease.Milliseconds())),
		MaxBatch: clampU32(w.cfg.maxBatch), Credit: credit,
		Version: w.cfg.version, Weight: w.cfg.weight, Metadata: w.cfg.metadata,
	}}) // if that fails, the receiver learns why
	var received error
	broken := make(chan struct{})
	go func() {
		defer close(broken)
		received = w.receive(s, cancel)
	}()
	finished := w.send(s, credit, broken)
	if finished {
		w.bye(s, broken)
		cancel(nil)
	}
	<-broken
	w.mu.Lock()
	ready = w.ready
	w.mu.Unlock()
	if finished {
		return ready, errDrained
	}
	return ready, fromStatus(w.c.ctx, received)
}

// opened begins a session in the book and returns its credit.
func (w *worker) opened() uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.book.reconnected(w.now())
	w.pending = w.book.open
	w.ready, w.ahead, w.scan = false, 0, 0
	return w.credit()
}

// credit is how many packets the worker wants to hold: no more than it may begin.
func (w *worker) credit() uint32 {
	n := w.ramp.limit(w.cfg.credit)
	if w.cfg.maxPackets > 0 {
		n = min(n, max(1, w.cfg.maxPackets-w.ended))
	}
	return clampU32(n)
}

// bye ends a stream in order, so that the relay takes back at once what was not
// begun. It does not wait for long.
func (w *worker) bye(s grpc.ClientStream, broken <-chan struct{}) {
	if s.CloseSend() != nil {
		return
	}
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-broken:
	case <-timer.C:
	case <-w.c.ctx.Done():
	}
}

// send sends settlements, renewals, credit and the wish to drain, until the
// stream breaks or, with true, nothing is left to do.
func (w *worker) send(s grpc.ClientStream, credit uint32, broken <-chan struct{}) (finished bool) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	told := false // of the drain
	for {
		request, wait, over := w.compose(&credit, &told)
		if len(request) > 0 {
			// The first write after a break fails; the receiver learns why.
			if s.SendMsg(&codec.Raw{Bytes: request}) != nil {
				<-broken
				return false
			}
			continue
		}
		if over {
			return true
		}
		timer.Reset(wait)
		select {
		case <-w.wakeup:
		case <-timer.C:
		case <-broken:
			return false
		case <-w.c.ctx.Done():
			return false
		}
	}
}

// compose writes what there is to say, and says how long to sleep if that is
// nothing. New memory each time: gRPC may hold the bytes when SendMsg returned.
func (w *worker) compose(credit *uint32, told *bool) (b []byte, wait time.Duration, over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	if w.cfg.exitEmpty && w.empty() && now-w.active >= w.cfg.idle {
		w.startDrain()
	}
	again := maxTick
	switch {
	case w.pending == 0:
	case w.ahead < maxAhead || w.pending >= minFrame || w.draining || w.held > 0 && now-w.held >= maxHold:
		w.held = 0
		b, again = w.appendSettlements(b, now)
		if len(b) > 0 {
			w.ahead++
		}
	case w.held == 0:
		w.held, again = now, maxHold
	default:
		again = maxHold
	}
	if now >= w.scan {
		w.scan = now + w.book.tick
		w.book.expire(now)
		w.book.renewals(now, func(l *heldLane) { b = appendLeaseRef(b, l.repo, l.token) })
	}
	b = w.appendWishes(b, credit, told)
	if len(b) == 0 {
		over = w.over() || w.late()
		w.idle = true
	}
	wait = min(w.scan-now, again)
	if w.cfg.exitEmpty {
		wait = min(wait, max(w.cfg.idle/4, time.Millisecond))
	}
	return b, max(wait, time.Millisecond), over
}

// appendWishes writes a new credit, and the wish to drain.
func (w *worker) appendWishes(b []byte, credit *uint32, told *bool) []byte {
	if c := w.credit(); c != *credit {
		*credit = c
		b = protowire.AppendVarint(append(b, 4<<3|byte(protowire.VarintType)), uint64(c))
	}
	if w.draining && !*told {
		*told = true
		b = append(b, 5<<3|byte(protowire.VarintType), 1)
	}
	return b
}

// empty: there is nothing to do and has not been since active.
func (w *worker) empty() bool { return w.ready && len(w.book.lanes) == 0 && w.running == 0 }

// appendSettlements writes what is to be settled, up to maxRequest, and says when
// something that must wait can be sent.
func (w *worker) appendSettlements(b []byte, now time.Duration) ([]byte, time.Duration) {
	dirty := w.book.dirty
	w.book.dirty = w.spare[:0]
	again := maxTick
	for i, l := range dirty {
		dirty[i] = nil
		if len(b) >= maxRequest || now < l.again {
			again = min(again, max(l.again-now, 0))
			w.book.dirty = append(w.book.dirty, l)
			continue
		}
		l.dirty = false
		for k := range l.settlements {
			st := &l.settlements[k]
			if st.sent {
				continue
			}
			if len(b) >= maxRequest {
				w.book.mark(l)
				break
			}
			b = appendSettlement(b, l.repo, st)
			st.sent = true
			w.pending--
		}
		w.book.drop(l)
	}
	w.spare = dirty[:0]
	return b, again
}

// receive takes responses until the stream ends.
func (w *worker) receive(s grpc.ClientStream, cancel context.CancelCauseFunc) error {
	var raw codec.Raw
	var resp workResponse
	for {
		if err := s.RecvMsg(&raw); err != nil {
			if errors.Is(err, io.EOF) {
				return &Error{Code: CodeUnavailable, Message: "the node ended the stream"}
			}
			return err
		}
		if err := resp.parse(raw.Bytes); err != nil {
			cancel(err)
			return err
		}
		w.take(&resp)
		if len(resp.deliveries) > 0 {
			raw.Bytes = nil // the deliveries' now
		}
		if resp.draining && w.link.several() {
			// Not an end in order: the grants stay ours, under the same name
			// on another node.
			return &Error{Code: CodeUnavailable, Message: "the node is draining"}
		}
	}
}

// answered is what the observer is told of a settlement.
type answered struct {
	repo            string
	sequence, token uint64
	err             error
}

// take puts a response into the book, in the order: answers, then deliveries.
func (w *worker) take(resp *workResponse) {
	var told []answered
	observed := w.c.cfg.observer.OnSettled != nil
	w.mu.Lock()
	now := w.now()
	tick := w.book.tick
	w.ready = w.ready || resp.ready
	if resp.ready || len(resp.deliveries) > 0 {
		w.active = now
	}
	for i := range resp.settlements {
		a := &resp.settlements[i]
		l := w.book.lanes[string(a.repo)]
		if l == nil {
			continue
		}
		repo := l.repo // before the lane is forgotten
		token, ended := w.book.settled(now, l, a.sequence, a.err)
		switch {
		case ended && observed:
			told = append(told, answered{repo, a.sequence, token, errorOf(a.err)})
		case !ended && token != 0:
			w.pending++
		}
		if ended && a.err != nil {
			w.c.cfg.logger.Warn("settlement refused", "group", w.cfg.group, "repo", repo, "sequence", a.sequence, "error", a.err)
		}
	}
	for i := range resp.renewals {
		a := &resp.renewals[i]
		if l := w.book.lanes[string(a.repo)]; l != nil {
			w.book.renewed(l, a.token, a.err)
		}
	}
	for i := range resp.deliveries {
		d := &resp.deliveries[i]
		l := w.book.lane(d.repo)
		d.RepoID = l.repo
		if w.book.deliver(now, l, &d.Delivery) {
			w.enable(l)
		}
	}
	if len(resp.settlements) > 0 {
		w.ahead = 0
	}
	if w.book.tick < tick {
		w.scan = min(w.scan, now+w.book.tick)
	}
	if w.pending > 0 || w.draining || w.book.tick < tick {
		w.wake()
	}
	w.mu.Unlock()
	for _, a := range told {
		w.c.cfg.observer.OnSettled(a.repo, a.sequence, a.token, a.err, time.Now())
	}
}
