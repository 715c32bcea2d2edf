package server

import (
	"context"
	"net"
	"net/netip"
)

// TrialNetwork is what stands between a load test's own nodes.
type TrialNetwork struct {
	// Gossip and Peer are where the others are told to reach this node.
	Gossip netip.AddrPort
	Peer   string
	// Dial connects to another node.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}
