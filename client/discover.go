package client

import (
	"context"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

const (
	// discoverEvery is how often a client that is used asks which nodes there are.
	discoverEvery = 15 * time.Second
	// discoverSoon is how long it waits for that after a question without an answer.
	discoverSoon = time.Second
	// maxTargets bounds the addresses that a client knows.
	maxTargets = 64
)

// use begins to look for the cluster's other nodes when the client is first used:
// whoever was given one address goes on at another when that node is gone.
func (c *Client) use() {
	if c.used.Swap(true) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.workers.Go(c.discover)
	}
}

// discover learns the nodes' addresses until the client is closed.
func (c *Client) discover() {
	for {
		wait := discoverEvery
		switch err := c.ask(); {
		case status.Code(err) == codes.Unimplemented:
			return
		case err != nil:
			wait = discoverSoon
		}
		if pause(c.ctx, wait) != nil {
			return
		}
	}
}

// ask has one node say which others there are.
func (c *Client) ask() error {
	conn, _, err := c.links[int(c.turn.Add(1))%len(c.links)].conn()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
	defer cancel()
	a, err := waystationv1.NewWaystationClient(conn).DescribeCluster(ctx, &waystationv1.DescribeClusterRequest{})
	if err != nil {
		return err
	}
	for _, n := range a.GetNodes() {
		addr := n.GetAddresses().GetGrpc()
		if !reachable(addr) || n.GetState() == "down" {
			continue
		}
		for _, l := range c.links {
			l.learn(addr)
		}
	}
	return nil
}

// reachable says whether an address names a host: one that only says which port a
// node listens on is no use to others.
func reachable(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || port == "" || port == "0" {
		return false
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsUnspecified()
}

// learn adds a target behind those that are known.
func (l *link) learn(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.targets) >= maxTargets || slices.Contains(l.targets, addr) {
		return
	}
	l.targets = append(l.targets, addr)
}

// known returns the targets.
func (l *link) known() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.targets)
}

// several says whether there is another target to go on at.
func (l *link) several() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.targets) > 1
}
