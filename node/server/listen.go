package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/net/netutil"

	"github.com/waystation/waystation/node/config"
)

// ports are the node's TCP ports. Gossip opens its own.
type ports struct {
	grpc, http, peer net.Listener
}

// close closes what is not served; it may be served and closed already.
func (p *ports) close() {
	for _, l := range []net.Listener{p.grpc, p.http, p.peer} {
		if l != nil {
			_ = l.Close() // nothing was accepted, or it is closed
		}
	}
}

// listen opens the node's ports. What takes one is named where it is known. On
// this machine a second node whose flags say nothing takes free ones.
func listen(ctx context.Context, cfg *config.Config, s sizes, f *founder) (p *ports, err error) {
	p = &ports{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	for _, x := range []struct {
		flag, addr  string
		connections int
		to          *net.Listener
	}{
		{"listen", cfg.Listen, s.grpcConnections(), &p.grpc},
		{"http", cfg.HTTP, s.httpConnections(), &p.http},
		{"peer", cfg.Peer, s.peerConnections(), &p.peer},
	} {
		var l net.Listener
		if l, err = f.listen(ctx, x.addr, cfg.Given(x.flag)); err != nil {
			return p, portError(x.flag, x.addr, err)
		}
		*x.to = netutil.LimitListener(l, x.connections)
	}
	if err = gossipPort(ctx, cfg, f); err != nil {
		return p, err
	}
	return p, f.claimPorts(p.grpc.Addr(), p.http.Addr(), p.peer.Addr())
}

// gossipPort has gossip, which opens its port itself, take a free one where
// another node of this machine has that of the settings.
func gossipPort(ctx context.Context, cfg *config.Config, f *founder) error {
	l, err := f.listen(ctx, cfg.Gossip, cfg.Given("gossip"))
	if err != nil {
		return portError("gossip", cfg.Gossip, err)
	}
	host, port, err := net.SplitHostPort(cfg.Gossip)
	if _, taken, _ := net.SplitHostPort(l.Addr().String()); err == nil && taken != port {
		cfg.Gossip = net.JoinHostPort(host, "0")
	}
	return errors.Join(err, l.Close())
}

func portError(flag, addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("--%s %s: the address is in use%s; stop what uses it, or choose another port (0 takes a free one)",
			flag, addr, owner(addr))
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("--%s %s: not permitted; choose a port above 1023", flag, addr)
	}
	return fmt.Errorf("--%s %s: %w", flag, addr, err)
}

// owner names the node on addr, if its data folder is one of those nearby.
func owner(addr string) string {
	for _, e := range config.FindEndpoints(".") {
		a := e.Addresses
		if a.GRPC == addr || a.HTTP == addr || a.Peer == addr || a.Gossip == addr {
			return fmt.Sprintf(" by the node with PID %d on %s", e.PID, e.DataDir)
		}
	}
	return ""
}
