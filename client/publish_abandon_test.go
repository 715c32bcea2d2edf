package client

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/waystation/waystation/client/internal/fakerelay"
	"github.com/waystation/waystation/messages/wire"
)

// fullRelay refuses what goes to the repository "full", each time after gate.
func fullRelay(t *testing.T, gate func()) *fakerelay.Relay {
	return relay(t, func(r *fakerelay.Relay) {
		r.OnPacket = func(p *wire.Packet) *wire.ResultView {
			if string(p.Repo) != "full" {
				return nil
			}
			gate()
			return &wire.ResultView{Code: CodeResourceExhausted, Message: "backlog"}
		}
	})
}

// publishFull publishes to the repository "full" until ctx ends.
func publishFull(ctx context.Context, c *Client) <-chan error {
	published := make(chan error, 1)
	go func() {
		_, err := c.Publish(ctx, &Packet{RepoID: "full", Content: []byte("x")})
		published <- err
	}()
	return published
}

func TestPublishContextEndsBetweenTries(t *testing.T) {
	r := fullRelay(t, func() {})
	c := dial(t, r, WithWindow(1), WithRetry(RetryPolicy{Min: time.Hour, Max: time.Hour}))
	ctx, cancel := context.WithCancel(within(t))
	published := publishFull(ctx, c)
	await(t, func() bool {
		p := c.shards[0]
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.delayed.first() != nil
	})
	cancel()
	if err := <-published; !errors.Is(err, context.Canceled) || ErrorCode(err) != CodeResourceExhausted {
		t.Errorf("publish returned %v, want the context's end and the last refusal", err)
	}
	// The packet was withdrawn: the window's only place is free again.
	if _, err := c.Publish(within(t), &Packet{RepoID: "free"}); err != nil {
		t.Error(err)
	}
	if n := len(r.Packets("full")); n != 0 {
		t.Errorf("%d packets of a caller that gave up are stored", n)
	}
}

// TestPublishContextEndsDuringATry: nobody waits any more when the refusal comes.
// A packet that is tried again all the same holds its place in the window for as
// long as the repository is full.
func TestPublishContextEndsDuringATry(t *testing.T) {
	arrived, refuse := make(chan struct{}), make(chan struct{})
	tries := 0
	r := fullRelay(t, func() {
		if tries++; tries == 2 { // so that there is a refusal of an earlier try
			close(arrived)
			<-refuse
		}
	})
	c := dial(t, r, WithWindow(1))
	ctx, cancel := context.WithCancel(within(t))
	published := publishFull(ctx, c)
	<-arrived
	cancel()
	if err := <-published; !errors.Is(err, context.Canceled) || ErrorCode(err) != CodeUnknown {
		t.Errorf("publish returned %v, want the context's end and that the outcome is unknown", err)
	}
	close(refuse)
	if _, err := c.Publish(within(t), &Packet{RepoID: "free"}); err != nil {
		t.Error(err)
	}
	if err := c.Flush(within(t)); err != nil {
		t.Error(err)
	}
}

func TestPublishContextEndsBeforeTheFirstTry(t *testing.T) {
	r := relay(t, nil)
	c := dial(t, r, WithWindow(1), WithDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	ctx, cancel := context.WithCancel(within(t))
	published := publishFull(ctx, c)
	p := c.shards[0]
	await(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.open > 0 })
	cancel()
	if err := <-published; !errors.Is(err, context.Canceled) || ErrorCode(err) != CodeUnavailable {
		t.Errorf("publish returned %v, want the context's end and that it was not sent", err)
	}
	if err := c.window.acquire(within(t), 0); err != nil {
		t.Errorf("the window's only place: %v", err)
	}
}
