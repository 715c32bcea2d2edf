// Command node runs a Waystation node, or talks to one: see --help.
package main

import (
	"context"
	"os"

	"github.com/waystation/waystation/node/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), cli.OSStreams(), os.Args[1:]))
}
