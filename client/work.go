package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Work calls h for the packets of group, which is created if it does not exist,
// until ctx ends. It then drains: no handler begins any more, those that run are
// waited for, and their settlements are answered; what was delivered and not
// begun goes back to the relay. After that, and at the end that WithMaxPackets or
// WithExitWhenEmpty ask for, Work returns nil.
//
// Each Work call has one stream, on one of the client's connections; calls are
// spread over them. A lost stream is opened again while handlers run on; Work
// returns an error only if the relay refuses the worker for good, if the client
// is closed (ErrClosed), or if settlements had no answer at the end of a drain.
func (c *Client) Work(ctx context.Context, group string, h Handler, opts ...WorkOption) error {
	cfg := defaultWorkConfig(group)
	for _, o := range opts {
		o(&cfg)
	}
	if err := cfg.validate(); err != nil {
		return fmt.Errorf("work %s: %w", group, err)
	}
	cfg.settle()
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	c.workers.Add(1)
	c.mu.Unlock()
	defer c.workers.Done()
	w := newWorker(ctx, c, cfg, h)
	err := w.warmUp(ctx)
	if err == nil {
		err = w.run(ctx)
	}
	if err != nil {
		return fmt.Errorf("work %s: %w", group, err)
	}
	return nil
}

// worker is one Work call. One goroutine sends, one receives while there is a
// stream, and up to concurrency goroutines run handlers; what they share is
// under mu.
type worker struct {
	c    *Client
	cfg  workConfig
	h    Handler
	link *link
	ctx  context.Context // Work's own: begin no handler after its end
	base context.Context // of all handlers
	end  context.CancelCauseFunc
	zero time.Time // of the book's clock

	mu       sync.Mutex
	book     *book
	runnable heldList
	wanted   *sync.Cond // a lane is runnable, or handlers must end
	handlers sync.WaitGroup
	threads  int // goroutines for handlers
	running  int // of them in a handler
	begun    int // handler calls, over all
	ended    int
	draining bool
	stopped  bool
	timeout  *time.Timer   // of the drain
	quiet    time.Duration // when the drain had only answers to wait for; 0: not yet
	ready    bool
	ramp     ramp
	active   time.Duration // when there was last something to do

	scan    time.Duration // when to look at the leases again
	pending int           // settlements to be sent
	ahead   int           // messages with settlements since the last answer
	held    time.Duration // since when settlements are held back; 0: not
	idle    bool          // the sender sleeps
	spare   []*heldLane   // memory for the book's list
	wakeup  chan struct{}
}

func newWorker(ctx context.Context, c *Client, cfg workConfig, h Handler) *worker {
	w := &worker{
		c: c, cfg: cfg, h: h, ctx: ctx, book: newBook(), zero: time.Now(),
		link: c.links[int(c.turn.Add(1))%len(c.links)], wakeup: make(chan struct{}, 1),
	}
	w.wanted = sync.NewCond(&w.mu)
	if cfg.slowStart {
		w.ramp.credit = 1
	}
	w.base, w.end = context.WithCancelCause(context.WithoutCancel(ctx))
	return w
}

func (w *worker) now() time.Duration { return time.Since(w.zero) }

// errDrained ends a session when nothing is left to do.
var errDrained = errors.New("drained")

// run holds sessions one after the other until the work is over.
func (w *worker) run(ctx context.Context) error {
	defer w.end(nil)
	defer context.AfterFunc(ctx, w.drain)()
	defer context.AfterFunc(w.c.ctx, func() { w.end(ErrClosed) })()
	var err error
	for failures := 1; ; failures++ {
		var ready bool
		ready, err = w.session()
		if ready {
			failures = 1
		}
		if done, verdict := w.verdict(ready, err); done {
			err = verdict
			break
		}
		w.c.cfg.logger.Info("work stream ended", "group", w.cfg.group, "worker", w.cfg.name, "error", err, "failures", failures)
		w.rest(failures, err)
	}
	w.stop()
	return err
}

// verdict says whether a session's end is the end of the work.
func (w *worker) verdict(ready bool, err error) (done bool, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over():
		return true, nil
	case errors.Is(err, errDrained), w.late():
		return true, fmt.Errorf("drain: %d settlements without an answer", w.book.open)
	case w.c.ctx.Err() != nil:
		return true, ErrClosed
	case fatal(err), ErrorCode(err) == CodeNotFound, // its group was deleted
		!ready && ErrorCode(err) == CodeInvalidArgument:
		return true, err
	}
	return false, nil
}

// settleTimeout bounds how long a drain waits for the answers to settlements
// once the last handler has ended.
const settleTimeout = 5 * time.Second

// late says whether it has.
func (w *worker) late() bool {
	if !w.draining || w.running > 0 {
		return false
	}
	if w.quiet == 0 {
		w.quiet = w.now()
	}
	return w.now()-w.quiet > settleTimeout
}

// over: drained, and nothing is left to be told to the relay.
func (w *worker) over() bool { return w.draining && w.running == 0 && w.book.open == 0 }

// rest waits between two sessions, for less long when there is nothing to come
// back for.
func (w *worker) rest(failures int, err error) {
	timer := time.NewTimer(w.c.cfg.retry.reconnect(failures, err))
	defer timer.Stop()
	for {
		w.mu.Lock()
		over := w.over() || w.late()
		w.book.expire(w.now())
		w.idle = true
		w.mu.Unlock()
		if over {
			return
		}
		select {
		case <-w.wakeup:
		case <-timer.C:
			return
		case <-w.c.ctx.Done():
			return
		}
	}
}

// drain ends the beginning of handlers. It may be called more than once.
func (w *worker) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.startDrain()
}

func (w *worker) startDrain() {
	if w.draining {
		return
	}
	w.draining = true
	w.timeout = time.AfterFunc(w.cfg.drainTimeout, func() { w.end(ErrDrainTimeout) })
	w.wake()
}

// stop waits for all handlers.
func (w *worker) stop() {
	w.mu.Lock()
	w.draining, w.stopped = true, true
	if w.timeout != nil {
		defer w.timeout.Stop() // not before the handlers ended
	}
	w.wanted.Broadcast()
	w.mu.Unlock()
	w.handlers.Wait()
}

func (w *worker) wake() {
	if w.idle {
		w.idle = false
		select {
		case w.wakeup <- struct{}{}:
		default:
		}
	}
}
