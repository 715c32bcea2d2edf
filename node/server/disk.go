package server

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/internal/cadence"
)

// lookAtDisk is how often free space is measured: a fast writer fills some
// hundred megabytes in between, which is what the reserve is for.
const lookAtDisk = time.Second

// hardShare of the reserve is the hard reserve: with less, a follower acknowledges
// nothing and this node leads nothing. The ballast is of the same size.
const hardShare = 4

// disk knows how much may still be written where the data folder is. Below the
// reserve no packets are taken by partitions with a voter here, while settlements
// and expiry, which make room, go on; the other nodes hear of it in heartbeats.
type disk struct {
	dir     string
	reserve int64 // bytes
	measure func(dir string) (free int64, known bool)
	free    atomic.Int64 // bytes; -1: unknown
	low     atomic.Bool
	hard    atomic.Bool
	logger  *slog.Logger
}

func newDisk(dir string, reserve int64, measure func(string) (int64, bool), logger *slog.Logger, reg prometheus.Registerer) (*disk, error) {
	d := &disk{dir: dir, reserve: reserve, measure: measure, logger: logger}
	free := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "waystation_disk_free_bytes", Help: "Free space where the data folder is; -1 where it cannot be measured.",
	}, func() float64 { return float64(d.free.Load()) })
	if err := reg.Register(free); err != nil {
		return nil, err
	}
	d.look()
	return d, nil
}

// watch measures until ctx ends.
func (d *disk) watch(ctx context.Context) {
	tick := time.NewTimer(cadence.Until(time.Now(), lookAtDisk))
	defer tick.Stop()
	for {
		tick.Reset(cadence.Until(time.Now(), lookAtDisk))
		select {
		case <-tick.C:
			d.look()
		case <-ctx.Done():
			return
		}
	}
}

func (d *disk) look() {
	free, known := d.measure(d.dir)
	if !known {
		d.free.Store(-1)
		return
	}
	d.free.Store(free)
	low, hard := free < d.reserve, free < d.reserve/hardShare
	if wasLow, wasHard := d.low.Swap(low), d.hard.Swap(hard); low != wasLow || hard != wasHard {
		d.logger.Warn("disk space", slog.Int64("free_bytes", free), slog.Int64("reserve_bytes", d.reserve),
			slog.Bool("publishing_stopped", low), slog.Bool("acknowledging_stopped", hard))
	}
	if err := d.keepBallast(free); err != nil {
		d.logger.Warn("no ballast: the disk may fill up to its last byte", slog.Any("error", err))
	}
}

// headroom is how many bytes may be written until the reserve begins, negative
// under it.
func (d *disk) headroom() int64 {
	if free := d.free.Load(); free >= 0 {
		return free - d.reserve
	}
	return 1<<63 - 1
}

// full says that the hard reserve is reached.
func (d *disk) full() bool { return d.hard.Load() }

// room says whether bytes more of a snapshot may be written.
func (d *disk) room(bytes int64) error {
	free, known := d.measure(d.dir)
	if known && free-bytes < d.reserve {
		return fmt.Errorf("no room for a snapshot: %d bytes are free, %d of them are the reserve", free, d.reserve)
	}
	return nil
}

// trouble is what the disk's state is called.
func (d *disk) trouble() string {
	switch {
	case d.hard.Load():
		return "disk full"
	case d.low.Load():
		return "disk nearly full"
	}
	return ""
}
