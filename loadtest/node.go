package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"

	"github.com/waystation/waystation/loadtest/fleet"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/server"
)

// runNode is this program as one of its own nodes: the only place that knows
// the server. It ends when stdin does, that is with the load test.
func runNode(arg string, stdin io.Reader, stdout, stderr io.Writer) int {
	var spec fleet.Spec
	if err := json.Unmarshal([]byte(arg), &spec); err != nil {
		fmt.Fprintf(stderr, "node: read spec: %v\n", err)
		return exitUsage
	}
	cfg := config.Default()
	cfg.Name, cfg.ClusterName, cfg.DataDir, cfg.Join = spec.Name, spec.Cluster, spec.DataDir, "none"
	cfg.Listen, cfg.HTTP = spec.Addresses.GRPC, spec.Addresses.HTTP
	cfg.Gossip, cfg.Peer = spec.Addresses.Gossip, spec.Addresses.Peer
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		cancel()
	}()
	if err := server.Run(ctx, cfg, stdout, slog.New(slog.NewTextHandler(stderr, nil))); err != nil {
		fmt.Fprintf(stderr, "node: %v\n", err)
		return exitFailed
	}
	return exitGood
}
