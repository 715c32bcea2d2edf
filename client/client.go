package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// Client is a connection to a relay. It is safe for use from several goroutines.
type Client struct {
	cfg   config
	links []*link
	pool  *codec.Pool
	turn  atomic.Uint32 // the next link for a call or a Work
	used  atomic.Bool

	// ctx ends with Close; every goroutine and stream of the client hangs on it.
	ctx    context.Context
	cancel context.CancelCauseFunc

	producer string
	epochs   epochs
	window   *window
	shards   []*publisher
	charting sync.Mutex // guards the change of atlas
	atlas    atomic.Pointer[atlas]

	mu      sync.Mutex // guards closed and the beginning of Work calls
	closed  bool
	workers sync.WaitGroup
	items   sync.Pool // of *item
	seed    maphash.Seed
}

// Dial prepares a client for the relay whose nodes are at targets, given as
// "host:port,host:port": one will do, the others are asked for, but who names
// several need not hope that the first one is there. Connections are made when they are needed, so that
// Dial does not block and a relay that is away is no error of it; WaitReady
// says whether one can be reached. With WithProducer it asks the cluster for an
// epoch, and does block until it has it or ctx ends. ctx has no part in what
// comes after Dial.
func Dial(ctx context.Context, targets string, opts ...Option) (*Client, error) {
	cfg := defaultConfig()
	for _, o := range opts {
		o(&cfg)
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("dial %s: %w", targets, err)
	}
	pool := codec.NewPool()
	links, err := newLinks(targets, &cfg, pool)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", targets, err)
	}
	c := newClient(cfg, links, pool)
	if cfg.producer != "" {
		if err := c.openProducer(ctx); err != nil {
			_ = c.Close()
			return nil, fmt.Errorf("dial %s: open producer %s: %w", targets, cfg.producer, err)
		}
	}
	return c, nil
}

func newClient(cfg config, links []*link, pool *codec.Pool) *Client {
	c := &Client{cfg: cfg, links: links, pool: pool, producer: cfg.producer, window: newWindow(cfg.window, cfg.windowBytes)}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.items.New = func() any { return new(item) }
	c.epochs.newest.Store(1)
	c.seed = maphash.MakeSeed()
	if c.producer == "" && cfg.position {
		c.producer = randomName()
	}
	// A publisher has a connection to each node that it needs: about as many as
	// there are targets.
	for i := range max(1, (len(links)+len(links[0].given)-1)/len(links[0].given)) {
		c.shards = append(c.shards, newPublisher(c, links[i], i))
	}
	return c
}

// randomName returns 128 random bits: nobody else has them, so that what is
// sent under them needs no epoch from the cluster.
func randomName() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Close ends the client. It does not wait for receipts: call Flush first. What
// has no receipt yet ends with ErrClosed, and with the code UNKNOWN as well
// where it may have been accepted. Work calls end; Close waits for their
// handlers and for all callbacks, so it must be called from neither. A second
// call does nothing.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	c.cancel(ErrClosed)
	c.window.close()
	for _, p := range c.shards {
		p.close()
	}
	c.epochs.wait()
	c.workers.Wait()
	for _, l := range c.links {
		l.close()
	}
	return nil
}

// WaitReady blocks until one of the targets is connected, or ctx ends.
func (c *Client) WaitReady(ctx context.Context) error {
	return c.links[0].waitReady(ctx, c.cfg.retry)
}

// call makes one unary call, trying other targets where nothing was done or
// doing it again does no harm, until ctx ends or three tries a target failed.
func (c *Client) call(ctx context.Context, do func(context.Context, waystationv1.WaystationClient) error) error {
	l := c.links[int(c.turn.Add(1))%len(c.links)]
	for try := 1; ; try++ {
		conn, target, err := l.conn()
		if err != nil {
			return err
		}
		err = fromStatus(ctx, do(ctx, waystationv1.NewWaystationClient(conn)))
		if err == nil || ctx.Err() != nil {
			return err
		}
		if c.ctx.Err() != nil {
			return ErrClosed
		}
		var e *Error
		if !asError(err, &e) || !e.Retriable() || try >= 3*len(l.known()) {
			return err
		}
		l.failed(target)
		if err := pause(ctx, c.cfg.retry.wait(try, e.RetryAfter)); err != nil {
			return err
		}
	}
}
