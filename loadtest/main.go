// Loadtest puts load on Waystation nodes, real code or synthetic packets, kills
// them meanwhile if asked to, and checks that the promises held.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/waystation/waystation/loadtest/fleet"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == fleet.NodeArgument {
		os.Exit(runNode(os.Args[2], os.Stdin, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
