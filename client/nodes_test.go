package client

import (
	"context"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waystation/waystation/client/internal/fakerelay"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// dialNodes dials a client that reaches the relays under their names.
func dialNodes(t *testing.T, targets string, nodes map[string]*fakerelay.Relay, change func(*config)) *Client {
	t.Helper()
	c, err := Dial(within(t), targets, func(c *config) {
		c.retry = RetryPolicy{Min: time.Millisecond, Max: 20 * time.Millisecond, Jitter: 0.5}
		c.dialer = func(ctx context.Context, addr string) (net.Conn, error) {
			if r := nodes[addr]; r != nil {
				return r.Dial(ctx, addr)
			}
			return nil, &net.AddrError{Err: "no such node", Addr: addr}
		}
		if change != nil {
			change(c)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestClientGoesOnAtANodeThatItWasNotTold(t *testing.T) {
	b := relay(t, nil)
	a := relay(t, func(r *fakerelay.Relay) {
		r.OnDescribe = func() *waystationv1.DescribeClusterResponse {
			return &waystationv1.DescribeClusterResponse{Nodes: []*waystationv1.Node{
				{Id: "a", State: "up", Addresses: &waystationv1.Addresses{Grpc: "a:1"}},
				{Id: "b", State: "up", Addresses: &waystationv1.Addresses{Grpc: "b:1"}},
				{Id: "c", State: "down", Addresses: &waystationv1.Addresses{Grpc: "c:1"}},
				{Id: "d", State: "up", Addresses: &waystationv1.Addresses{Grpc: "0.0.0.0:7400"}},
				{Id: "e", State: "up"},
			}}
		}
	})
	c := dialNodes(t, "a:1", map[string]*fakerelay.Relay{"a:1": a, "b:1": b}, nil)
	if _, err := c.Publish(within(t), &Packet{RepoID: "r", Content: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	want := []string{"a:1", "b:1"}
	for deadline := time.Now().Add(30 * time.Second); !slices.Equal(c.links[0].known(), want); {
		if time.Now().After(deadline) {
			t.Fatalf("the client knows %v, want %v", c.links[0].known(), want)
		}
		<-time.After(time.Millisecond)
	}
	a.Stop()
	if _, err := c.Publish(within(t), &Packet{RepoID: "r", Content: []byte("2")}); err != nil {
		t.Fatal(err)
	}
	if n := len(b.Packets("r")); n != 1 {
		t.Errorf("the other node has %d packets", n)
	}
}

func TestClientLeavesANodeThatSaysNothing(t *testing.T) {
	var hung atomic.Bool
	stop := make(chan struct{})
	a := relay(t, func(r *fakerelay.Relay) {
		r.OnAnswer = func(int) error {
			hung.Store(true)
			<-stop
			return nil
		}
	})
	t.Cleanup(func() { close(stop) })
	b := relay(t, nil)
	c := dialNodes(t, "a:1,b:1", map[string]*fakerelay.Relay{"a:1": a, "b:1": b}, func(c *config) {
		c.connections, c.answerSoon = 1, 100*time.Millisecond
	})
	if _, err := c.Publish(within(t), &Packet{RepoID: "r", Content: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	if n := len(b.Packets("r")); n != 1 || !hung.Load() {
		t.Errorf("the other node has %d packets; the first one was asked: %v", n, hung.Load())
	}
}
