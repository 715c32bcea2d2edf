// Loadtest puts load on Waystation nodes, real code or synthetic packets, kills
// them meanwhile if asked to, and checks that the promises held.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/waystation/waystation/loadtest/fleet"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == fleet.NodeArgument {
		os.Exit(runNode(os.Args[2], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(loadTest())
}

// loadTest runs until it is done, or told to end.
func loadTest() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if fleet.InNamespace() {
		// Whoever started this process holds its input, and is told of the end by it.
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	}
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}
