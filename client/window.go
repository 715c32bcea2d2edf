package client

import (
	"container/list"
	"context"
	"sync"
)

// window bounds what waits for its receipt, by packets and by bytes. Who comes
// first is served first, so that a large packet is not overtaken for ever.
type window struct {
	mu      sync.Mutex
	packets int
	bytes   int64
	free    struct {
		packets int
		bytes   int64
	}
	waiting list.List // of *windowWaiter
	closed  bool
}

type windowWaiter struct {
	bytes int64
	ready chan struct{}
}

func newWindow(packets int, bytes int64) *window {
	w := &window{packets: packets, bytes: bytes}
	w.free.packets, w.free.bytes = packets, bytes
	return w
}

// cost is what a packet of n bytes takes: a single one fits in any case.
func (w *window) cost(n int) int64 { return min(int64(n), w.bytes) }

// acquire takes room for one packet, and blocks until there is some.
func (w *window) acquire(ctx context.Context, bytes int64) error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return ErrClosed
	}
	if w.waiting.Len() == 0 && w.take(bytes) {
		w.mu.Unlock()
		return nil
	}
	if ctx.Err() != nil {
		w.mu.Unlock()
		return context.Cause(ctx)
	}
	wait := &windowWaiter{bytes: bytes, ready: make(chan struct{})}
	place := w.waiting.PushBack(wait)
	w.mu.Unlock()
	select {
	case <-wait.ready:
		return w.closedErr()
	case <-ctx.Done():
		return w.leave(ctx, wait, place)
	}
}

func (w *window) closedErr() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	return nil
}

// leave gives a place in the queue up, and room too that came at the same moment.
func (w *window) leave(ctx context.Context, wait *windowWaiter, place *list.Element) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-wait.ready:
		w.put(1, wait.bytes)
	default:
		w.waiting.Remove(place)
		w.serve() // it may have stood before smaller ones
	}
	return context.Cause(ctx)
}

func (w *window) take(bytes int64) bool {
	if w.free.packets == 0 || w.free.bytes < bytes {
		return false
	}
	w.free.packets--
	w.free.bytes -= bytes
	return true
}

// release gives the room of packets back.
func (w *window) release(packets int, bytes int64) {
	if packets == 0 {
		return
	}
	w.mu.Lock()
	w.put(packets, bytes)
	w.mu.Unlock()
}

func (w *window) put(packets int, bytes int64) {
	w.free.packets += packets
	w.free.bytes += bytes
	w.serve()
}

func (w *window) serve() {
	for e := w.waiting.Front(); e != nil; e = w.waiting.Front() {
		wait := e.Value.(*windowWaiter)
		if !w.closed && !w.take(wait.bytes) {
			return
		}
		w.waiting.Remove(e)
		close(wait.ready)
	}
}

// close lets all go that wait, with ErrClosed.
func (w *window) close() {
	w.mu.Lock()
	w.closed = true
	w.serve()
	w.mu.Unlock()
}
