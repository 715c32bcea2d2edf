package client

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"
	"unicode/utf8"
)

// heldList is a list of lanes, linked through themselves.
type heldList struct {
	head, tail *heldLane
	n          int
}

func (q *heldList) push(l *heldLane) {
	l.next, l.runnable = nil, true
	if q.tail == nil {
		q.head = l
	} else {
		q.tail.next = l
	}
	q.tail = l
	q.n++
}

func (q *heldList) pop() *heldLane {
	l := q.head
	q.head, l.next, l.runnable = l.next, nil, false
	if q.head == nil {
		q.tail = nil
	}
	q.n--
	return l
}

// enable has a handler run for a lane that has something and runs nothing.
func (w *worker) enable(l *heldLane) {
	if l.runnable || l.current != nil || len(l.queue) == 0 || !w.mayBegin() {
		return
	}
	w.runnable.push(l)
	if w.threads-w.running < w.runnable.n && w.threads < w.cfg.concurrency {
		w.spawn()
		return
	}
	w.wanted.Signal()
}

func (w *worker) spawn() {
	w.threads++
	w.handlers.Go(w.thread)
}

// thread runs handlers, of one lane at a time.
func (w *worker) thread() {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() {
		w.threads--
		if w.runnable.n > 0 && !w.stopped { // the handler ended the goroutine
			w.spawn()
		}
	}()
	for {
		for w.runnable.n == 0 && !w.stopped {
			w.wanted.Wait()
		}
		if w.stopped {
			return
		}
		l := w.runnable.pop()
		w.lane(l)
		w.enable(l)
		w.book.drop(l)
	}
}

// laneTurn is how many packets of one lane run before another lane has its turn.
const laneTurn = 32

// lane runs the handlers of one lane's packets, under mu but for the handlers.
func (w *worker) lane(l *heldLane) {
	for range laneTurn {
		if !w.mayBegin() {
			return
		}
		d := l.take()
		if d == nil {
			return
		}
		if l.ctx == nil {
			l.ctx, l.cancel = context.WithCancelCause(w.base)
		}
		w.begun++
		w.running++
		w.handle(l.ctx, l, d)
	}
}

// mayBegin asks ctx itself: the drain that its end sets off comes a moment later.
func (w *worker) mayBegin() bool {
	return !w.draining && w.ctx.Err() == nil && (w.cfg.maxPackets == 0 || w.begun < w.cfg.maxPackets)
}

// handle calls the handler without mu, and records what came of it. It does so
// too when the handler ends its goroutine, as runtime.Goexit does.
func (w *worker) handle(ctx context.Context, l *heldLane, d *Delivery) {
	w.mu.Unlock()
	err := errGoexit
	defer func() {
		s := settle(d, err)
		w.mu.Lock()
		w.running--
		w.ended++
		if w.book.finish(l, s) {
			w.pending++
		}
		if w.cfg.maxPackets > 0 && w.ended >= w.cfg.maxPackets {
			w.startDrain()
		}
		w.active = w.now()
		grown := s.outcome == outcomeDone && w.ramp.success(w.cfg.credit)
		if grown || w.ahead < maxAhead || w.pending >= minFrame || w.draining {
			w.wake()
		}
	}()
	err = w.call(ctx, d)
}

var errGoexit = errors.New("handler ended its goroutine")

// call runs the handler, unless the content is damaged.
func (w *worker) call(ctx context.Context, d *Delivery) error {
	if d.hasCRC && crc32.Checksum(d.Content, castagnoli) != d.crc {
		return fmt.Errorf("packet %d of %s: %w", d.Sequence, d.RepoID, ErrContentCorrupt)
	}
	if f := w.c.cfg.observer.OnDelivery; f != nil {
		f(d, time.Now())
	}
	return w.guarded(ctx, d)
}

// settle makes a settlement of what a handler returned.
func settle(d *Delivery, err error) settlement {
	if err == nil && len(d.result) > maxResult {
		err = fmt.Errorf("result of %d bytes, at most %d", len(d.result), maxResult)
	}
	switch {
	case err == nil:
		return settlement{outcome: outcomeDone, result: d.result}
	case IsDead(err):
		return settlement{outcome: outcomeDead, message: message(err)}
	}
	return settlement{outcome: outcomeRetry, message: message(err), after: retryAfter(err)}
}

// message makes an error's text fit for a settlement.
func message(err error) string {
	return cut(strings.ToValidUTF8(err.Error(), "\uFFFD"), maxError)
}

// cut cuts a text to n bytes, between two characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
