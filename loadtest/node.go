package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/waystation/waystation/loadtest/fleet"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/server"
)

// runNode is this program as one of its own nodes: the only place that knows
// the server. It ends when stdin does, that is with the load test, or when it is
// asked to drain.
func runNode(arg string, stdin io.Reader, stdout, stderr io.Writer) int {
	var spec fleet.Spec
	if err := json.Unmarshal([]byte(arg), &spec); err != nil {
		fmt.Fprintf(stderr, "node: read spec: %v\n", err)
		return exitUsage
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	// Each life of a node loses something else.
	disk, err := server.NewTrialDisk(spec.DataDir, spec.Lossy, spec.Seed<<16+uint64(os.Getpid()))
	if err != nil {
		fmt.Fprintf(stderr, "node: %v\n", err)
		return exitFailed
	}
	go func() {
		obey(stdin, disk.Slow)
		cancel()
	}()
	network, err := network(&spec)
	if err != nil {
		fmt.Fprintf(stderr, "node: %v\n", err)
		return exitUsage
	}
	if err := server.RunOn(ctx, settings(&spec), disk, network, stdout, slog.New(slog.NewTextHandler(stderr, nil))); err != nil {
		fmt.Fprintf(stderr, "node: %v\n", err)
		return exitFailed
	}
	return exitGood
}

// network is a node's way to the others; nil: straight.
func network(spec *fleet.Spec) (*server.TrialNetwork, error) {
	d := spec.Detour
	if d == nil {
		return nil, nil
	}
	gossip, err := netip.ParseAddrPort(d.Gossip)
	if err != nil {
		return nil, fmt.Errorf("read spec: %w", err)
	}
	return &server.TrialNetwork{Gossip: gossip, Peer: d.Peer, Dial: d.Dial}, nil
}

// settings are a node's, as its spec says.
func settings(spec *fleet.Spec) config.Config {
	cfg := config.Default()
	cfg.Name, cfg.ClusterName, cfg.DataDir, cfg.Join = spec.Name, spec.Cluster, spec.DataDir, spec.Join
	cfg.Listen, cfg.HTTP = spec.Addresses.GRPC, spec.Addresses.HTTP
	cfg.Gossip, cfg.Peer = spec.Addresses.Gossip, spec.Addresses.Peer
	cfg.Replication, cfg.Advertise = spec.Replication, spec.Advertise
	// Beyond loopback there is nobody else: the network is the load test's own.
	cfg.GossipKeyFile, cfg.Insecure = spec.GossipKeyFile, !spec.Loopback()
	return cfg
}

// obey carries out the orders that come in, a line each, until they end.
func obey(orders io.Reader, slow func(time.Duration)) {
	lines := bufio.NewScanner(orders)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), fleet.SlowOrder); ok {
			if d, err := time.ParseDuration(text); err == nil {
				slow(d)
			}
		}
	}
}
