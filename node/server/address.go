package server

import (
	"fmt"
	"net"

	"github.com/waystation/waystation/cluster/gossip"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/node/config"
)

// advertised is where the other nodes, and their clients, reach this node's ports;
// gossip finds its own address the same way. A port on every interface is told
// under --advertise, else under the machine's private address, unless the nodes
// talk on loopback only.
func advertised(cfg *config.Config, open *ports) (at meta.Addresses, err error) {
	anywhere := "127.0.0.1"
	if peer, _, _ := net.SplitHostPort(cfg.Peer); cfg.Advertise == "" && !config.LoopbackHost(peer) {
		ip, err := gossip.PrivateAddr()
		if err != nil && wildcard(peer) {
			return at, fmt.Errorf("--peer %s: %w", cfg.Peer, err)
		}
		if err == nil {
			anywhere = ip.String()
		}
	}
	for _, p := range []struct {
		to    *string
		flag  string
		bound net.Listener
	}{{&at.GRPC, cfg.Listen, open.grpc}, {&at.HTTP, cfg.HTTP, open.http}, {&at.Peer, cfg.Peer, open.peer}} {
		*p.to = reachable(p.flag, p.bound.Addr(), anywhere, cfg.Advertise)
	}
	return at, nil
}

// local is where tools of this machine reach the node: not under --advertise, which
// may lead through another machine.
func local(cfg *config.Config, open *ports, gossip int) config.Addresses {
	const here = "127.0.0.1"
	return config.Addresses{
		GRPC: reachable(cfg.Listen, open.grpc.Addr(), here, ""), HTTP: reachable(cfg.HTTP, open.http.Addr(), here, ""),
		Peer: reachable(cfg.Peer, open.peer.Addr(), here, ""), Gossip: reachable(cfg.Gossip, &net.TCPAddr{Port: gossip}, here, ""),
	}
}

// reachable is the configured host with the port that was really taken. A host that
// means every interface is named anywhere; instead, if not empty, stands for all.
func reachable(configured string, bound net.Addr, anywhere, instead string) string {
	_, port, err := net.SplitHostPort(bound.String())
	host, _, _ := net.SplitHostPort(configured)
	switch {
	case err != nil:
		return bound.String()
	case instead != "":
		host = instead
	case wildcard(host):
		host = anywhere
	}
	return net.JoinHostPort(host, port)
}

// wildcard says that a host means every interface.
func wildcard(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
