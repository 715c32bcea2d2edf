package client

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"
)

// Publish sends p and blocks until it has its receipt. It retries until ctx ends.
// Then the outcome is unknown, unless the error says UNAVAILABLE or
// RESOURCE_EXHAUSTED as well: the packet may be accepted, now or later, because
// those behind it need its number. It keeps its room in the window until the
// relay has said whether it is; a packet that is known not to be accepted gives
// it back at once. Content and Metadata belong to the caller again in any case.
func (c *Client) Publish(ctx context.Context, p *Packet) (Receipt, error) {
	type outcome struct {
		receipt Receipt
		err     error
	}
	result := make(chan outcome, 1)
	it := new(item)
	err := c.hand(ctx, it, p, func(r Receipt, err error) { result <- outcome{r, err} })
	if err != nil {
		return Receipt{}, fmt.Errorf("publish to %s: %w", p.RepoID, err)
	}
	var o outcome
	select {
	case o = <-result:
	case <-ctx.Done():
		known, ended := it.lane.home.abandon(it)
		if ended {
			o = <-result
			break
		}
		o.err = errors.Join(context.Cause(ctx), known)
	}
	if o.err != nil {
		return Receipt{}, fmt.Errorf("publish to %s: %w", p.RepoID, o.err)
	}
	return o.receipt, nil
}

// PublishAsync hands p over and returns; it blocks while the window is full,
// until ctx ends. If it returns nil, done is called exactly once, with the
// receipt or an error, from one of the client's goroutines: it must not block,
// and must call neither PublishAsync without room in the window nor Flush nor
// Close. If it returns an error, done is not called. done may be nil.
//
// p itself may be reused at once; its Content and Metadata must not be changed
// until done is called.
func (c *Client) PublishAsync(ctx context.Context, p *Packet, done func(Receipt, error)) error {
	it := c.items.Get().(*item)
	it.pooled = true
	if err := c.hand(ctx, it, p, done); err != nil {
		it.reset()
		c.items.Put(it)
		return fmt.Errorf("publish to %s: %w", p.RepoID, err)
	}
	return nil
}

// hand gives a packet to the publisher of its repository.
func (c *Client) hand(ctx context.Context, it *item, p *Packet, done func(Receipt, error)) error {
	if err := p.check(); err != nil {
		return err
	}
	it.fill(p, c.producer)
	it.done = done
	it.cost = c.window.cost(it.size)
	if c.cfg.retry.GiveUpAfter > 0 {
		it.since = time.Now()
	}
	if err := c.window.acquire(ctx, it.cost); err != nil {
		return err
	}
	if err := c.shard(p.RepoID).push(it); err != nil {
		c.window.release(1, it.cost)
		return err
	}
	return nil
}

// shard returns the publisher that a repository is pinned to.
func (c *Client) shard(repo string) *publisher {
	if len(c.shards) == 1 {
		return c.shards[0]
	}
	return c.shards[maphash.String(c.seed, repo)%uint64(len(c.shards))]
}

// Flush blocks until every packet that was handed over before has its receipt or
// error and its callback has returned, or until ctx ends.
func (c *Client) Flush(ctx context.Context) error {
	for _, p := range c.shards {
		for _, done := range p.flocks() {
			select {
			case <-done:
			case <-ctx.Done():
				return fmt.Errorf("flush: %w", context.Cause(ctx))
			}
		}
	}
	return nil
}
