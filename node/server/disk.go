package server

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/node/api"
)

// lookAtDisk is how often free space is measured: a fast writer fills some
// hundred megabytes in between, which is what the reserve is for.
const lookAtDisk = time.Second

// diskGuard stands before the relay: with too little disk it refuses packets,
// while settlements and expiry, which make room, go on.
type diskGuard struct {
	relay   api.Routed
	dir     string
	reserve int64
	free    atomic.Int64 // bytes; -1: unknown
	low     atomic.Bool
	refused prometheus.Counter
	logger  *slog.Logger
}

func newDiskGuard(dir string, reserve int64, logger *slog.Logger, reg prometheus.Registerer) (*diskGuard, error) {
	g := &diskGuard{dir: dir, reserve: reserve, logger: logger, refused: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "waystation_server_disk_refusals_total", Help: "Packets refused because the disk is nearly full.",
	})}
	free := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "waystation_disk_free_bytes", Help: "Free space where the data folder is; -1 where it cannot be measured.",
	}, func() float64 { return float64(g.free.Load()) })
	for _, c := range []prometheus.Collector{free, g.refused} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	g.look()
	return g, nil
}

// watch measures until ctx ends.
func (g *diskGuard) watch(ctx context.Context) {
	tick := time.NewTicker(lookAtDisk)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.look()
		case <-ctx.Done():
			return
		}
	}
}

func (g *diskGuard) look() {
	free, ok := diskFree(g.dir)
	if !ok {
		g.free.Store(-1)
		return
	}
	g.free.Store(free)
	if low := free < g.reserve; low != g.low.Swap(low) {
		g.logger.Warn("disk space", slog.Int64("free_bytes", free), slog.Int64("reserve_bytes", g.reserve), slog.Bool("publishing_stopped", low))
	}
}

var errDiskLow = &actors.Refusal{
	Code: actors.CodeResourceExhausted, RetryAfter: 5 * time.Second,
	Message: "the node's disk is nearly full: packets are refused until workers or retention have made room, or --disk-reserve is lowered",
}

// Offer implements api.Relay.
func (g *diskGuard) Offer(f *actors.Frame, sink actors.Sink) {
	if !g.low.Load() {
		g.relay.Offer(f, sink)
		return
	}
	results := make([]actors.PublishResult, len(f.Packets))
	for i := range results {
		results[i] = actors.PublishResult{Index: f.First + uint64(i), Repo: f.Packets[i].Repo, ID: f.Packets[i].ID, Refusal: errDiskLow}
	}
	g.refused.Add(float64(len(results)))
	sink.Results(results)
	if f.Release != nil {
		f.Release()
	}
}

// Parked implements api.Relay.
func (g *diskGuard) Parked(repo string) bool { return g.relay.Parked(repo) }

// Routes implements api.Routed.
func (g *diskGuard) Routes() (message []byte, changed <-chan struct{}) { return g.relay.Routes() }
