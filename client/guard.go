package client

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// ErrPacketTimeout is the cause of a handler's context when the packet took longer
// than WithPacketTimeout lets it.
var ErrPacketTimeout = errors.New("packet timed out")

// WithPacketTimeout ends a handler that takes longer than d for one packet: its
// context ends with the cause ErrPacketTimeout, and once it did not return within
// a tenth of d, or 100 ms where that is longer, the worker goes on without it. The
// packet is tried again after the group's back-off. What a handler does after that
// has no effect on the packet; its goroutine goes on until it returns, Work does not
// wait for it, and Observer.OnAbandoned is told of it. It must not use the delivery's
// memory for anything but reading. 0, the default: no limit.
func WithPacketTimeout(d time.Duration) WorkOption {
	return func(c *workConfig) { c.timeout = d }
}

// WithFallback has h work off what the handler cannot: each packet for which that
// returned an error that is not Dead, panicked or timed out. If h returns nil, the
// packet is done, and its result is what FallbackResult makes of the handler's error
// and h's result. If it does not, the packet is settled as the handler's error says,
// with h's added. h has WithPacketTimeout for itself once more, and is not called when
// the lease is lost.
func WithFallback(h Handler) WorkOption {
	return func(c *workConfig) { c.fallback = h }
}

// leastGrace is the least time that a handler has to return in once its context ended.
const leastGrace = 100 * time.Millisecond

// guarded calls the handler, and the fallback where there is one.
func (w *worker) guarded(ctx context.Context, d *Delivery) error {
	err := w.bounded(ctx, w.h, d)
	if err == nil || w.cfg.fallback == nil || IsDead(err) || ctx.Err() != nil {
		return err
	}
	d.result = nil
	if second := w.bounded(ctx, w.cfg.fallback, d); second != nil {
		return &fallbackError{first: err, second: second}
	}
	d.result = FallbackResult(err, d.result)
	return nil
}

// fallbackError is the handler's error, with the fallback's said after it: only the
// former decides what becomes of the packet.
type fallbackError struct{ first, second error }

func (e *fallbackError) Error() string {
	return fmt.Sprintf("%s; fallback: %s", cut(e.first.Error(), maxError/2), e.second)
}
func (e *fallbackError) Unwrap() error { return e.first }

// bounded calls a handler for as long as it may take.
func (w *worker) bounded(ctx context.Context, h Handler, d *Delivery) error {
	if w.cfg.timeout == 0 {
		return w.contained(ctx, h, d)
	}
	late := fmt.Errorf("%w: %v", ErrPacketTimeout, w.cfg.timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, w.cfg.timeout, late)
	defer cancel()
	// A copy: a handler that is left behind must not set the result of a later call.
	own := *d
	own.result = nil
	returned := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() { returned <- err }()
		err = w.contained(ctx, h, &own)
	}()
	hard := time.NewTimer(w.cfg.timeout + max(w.cfg.timeout/10, leastGrace))
	defer hard.Stop()
	finish := func(err error) error {
		d.result = own.result
		if err != nil && errors.Is(context.Cause(ctx), ErrPacketTimeout) {
			err = fmt.Errorf("%w: %w", late, err)
		}
		return err
	}
	select {
	case err := <-returned:
		return finish(err)
	case <-hard.C:
	}
	select {
	case err := <-returned: // at the same time: on a busy machine both are there
		return finish(err)
	default:
	}
	w.c.cfg.logger.Error("handler does not return", "group", w.cfg.group, "repo", d.RepoID, "sequence", d.Sequence, "timeout", w.cfg.timeout)
	if f := w.c.cfg.observer.OnAbandoned; f != nil {
		f(d, time.Now())
	}
	return late
}

// contained calls a handler; a panic becomes an error with its stack.
func (w *worker) contained(ctx context.Context, h Handler, d *Delivery) (err error) {
	defer func() {
		if v := recover(); v != nil {
			stack := debug.Stack()
			w.c.cfg.logger.Error("handler panicked", "group", w.cfg.group, "repo", d.RepoID,
				"sequence", d.Sequence, "panic", v, "stack", string(stack))
			err = fmt.Errorf("panic: %v\n\n%s", v, stack)
		}
	}()
	return h(ctx, d)
}
