package server

import (
	"context"
	"io"
	"log/slog"

	"github.com/waystation/waystation/node/config"
)

// Hooks are the hooks of a node, for tests.
type Hooks = hooks

// RunWith is Run with hooks.
func RunWith(ctx context.Context, cfg config.Config, stdout io.Writer, logger *slog.Logger, h Hooks) error {
	return runWith(ctx, cfg, nil, stdout, logger, h)
}
