package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/server"
)

// runServe runs a node until a signal comes or it cannot go on.
func runServe(ctx context.Context, s Streams, args []string) error {
	cfg, err := config.Load(args, s.Getenv)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(s.Out, usage())
		return nil
	}
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		return usagef("%v", err)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal drains; after it the default is back, so that a second ends
	// the process at once.
	context.AfterFunc(ctx, stop)
	return server.Run(ctx, cfg, s.Out, newLogger(&cfg, s))
}

func newLogger(cfg *config.Config, s Streams) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.LogLevel)) // Validate knows the four that there are
	opts := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(s.Err, opts))
	}
	return slog.New(slog.NewTextHandler(s.Err, opts))
}

// usage is the text of --help.
func usage() string {
	var b strings.Builder
	b.WriteString("Waystation relays code packets: durable, in order per repository, once.\n\n")
	b.WriteString("Usage: node [flags]              serve\n       node COMMAND [flags]      talk to a node\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-28s %s\n", strings.TrimSpace(c.name+" "+c.args), c.summary)
	}
	b.WriteString("\nEach command has a --help of its own. A flag is read from its WAYSTATION_… variable too\n")
	b.WriteString("(--data-dir: WAYSTATION_DATA_DIR), and from the --config file; the flag comes first.\n")
	b.WriteString("Exit codes: 0 good, 1 the answer is no, 2 usage, 3 could not reach a node.\n\n")
	b.WriteString(config.Usage())
	return b.String()
}
