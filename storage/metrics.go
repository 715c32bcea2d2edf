package storage

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of the log. A nil *metrics does nothing.
type metrics struct {
	registerer prometheus.Registerer
	sync       prometheus.Histogram
	disk       prometheus.GaugeFunc
	registered []prometheus.Collector
}

func newMetrics(r prometheus.Registerer) *metrics {
	if r == nil {
		return nil
	}
	return &metrics{
		registerer: r,
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "waystation_fsync_duration_seconds",
			Help:    "Time that each sync of the log took.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 18), // 50 µs to 6.5 s
		}),
	}
}

func (m *metrics) register(l *Log) error {
	if m == nil {
		return nil
	}
	m.disk = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "waystation_storage_log_bytes", Help: "Space that the log takes on disk.",
	}, func() float64 { return float64(l.DiskBytes()) })
	for _, c := range []prometheus.Collector{m.sync, m.disk} {
		if err := m.registerer.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
		m.registered = append(m.registered, c)
	}
	return nil
}

func (m *metrics) observeSync(d time.Duration) {
	if m != nil {
		m.sync.Observe(d.Seconds())
	}
}

func (m *metrics) close() {
	if m == nil {
		return
	}
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
	m.registered = nil
}
