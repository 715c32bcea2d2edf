package server

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/net/netutil"

	"github.com/waystation/waystation/node/config"
)

// listen opens the node's two ports. What takes one is named where it is known.
func listen(cfg *config.Config, s sizes) (grpc, http net.Listener, err error) {
	grpc, err = listenOn("listen", cfg.Listen, s.grpcConnections())
	if err != nil {
		return nil, nil, err
	}
	http, err = listenOn("http", cfg.HTTP, s.httpConnections())
	if err != nil {
		return nil, nil, errors.Join(err, grpc.Close())
	}
	return grpc, http, nil
}

func listenOn(flag, addr string, connections int) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("--%s %s: the address is in use%s; stop what uses it, or choose another port (0 takes a free one)",
			flag, addr, owner(addr))
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("--%s %s: not permitted; choose a port above 1023", flag, addr)
	case err != nil:
		return nil, fmt.Errorf("--%s %s: %w", flag, addr, err)
	}
	return netutil.LimitListener(l, connections), nil
}

// owner names the node on addr, if its data folder is one of those nearby.
func owner(addr string) string {
	for _, e := range config.FindEndpoints(".") {
		if e.Addresses.GRPC == addr || e.Addresses.HTTP == addr {
			return fmt.Sprintf(" by the node with PID %d on %s", e.PID, e.DataDir)
		}
	}
	return ""
}
