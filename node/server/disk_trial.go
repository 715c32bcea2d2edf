package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/storage"
)

// TrialDisk is a disk that misbehaves as a load test wants it to.
type TrialDisk struct{ slow *storage.SlowFS }

// trialThrough is the share of what is not synced that gets to a lossy disk
// nevertheless, in percent.
const trialThrough = 30

// NewTrialDisk returns the disk for a data folder. If it is lossy, the sudden
// death of the process loses what was not synced, as a loss of power does, and
// seed decides what of it.
func NewTrialDisk(dataDir string, lossy bool, seed uint64) (*TrialDisk, error) {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", dataDir, err)
	}
	var below storage.FS
	if lossy {
		if below, err = storage.NewLossyFS(storage.LossyConfig{Dir: dir, Seed: seed, Through: trialThrough}); err != nil {
			return nil, err
		}
	}
	return &TrialDisk{storage.NewSlowFS(below)}, nil
}

// Slow adds delay to each of the disk's syncs from now on. It may be called at any time.
func (d *TrialDisk) Slow(delay time.Duration) { d.slow.Slow(delay) }

// RunOn is Run for a load test's own node, on the disk for its data folder. A nil
// network is the machine's own.
func RunOn(ctx context.Context, cfg config.Config, d *TrialDisk, n *TrialNetwork, stdout io.Writer, logger *slog.Logger) error {
	return runWith(ctx, cfg, d.slow, stdout, logger, hooks{Network: n})
}
