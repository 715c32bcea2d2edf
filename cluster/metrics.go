package cluster

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	proposals      prometheus.Counter
	applied        prometheus.Counter
	logEntries     prometheus.Counter
	logSync        prometheus.Histogram
	logBatchBytes  prometheus.Histogram
	truncations    prometheus.Counter
	replicasFailed prometheus.Counter

	snapshotsSent     prometheus.Counter
	snapshotsReceived prometheus.Counter
	quarantined       prometheus.GaugeFunc
	strain            prometheus.GaugeFunc
}

func newMetrics(r prometheus.Registerer, quarantined, strain func() float64) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "waystation", Subsystem: "cluster", Name: name, Help: help})
	}
	m := &metrics{
		proposals:         counter("proposals_total", "Proposals that raft accepted."),
		applied:           counter("entries_applied_total", "Entries applied, of all groups."),
		logEntries:        counter("log_entries_total", "Entries written to the raft log."),
		truncations:       counter("log_truncations_total", "Truncations of a group's log."),
		replicasFailed:    counter("replicas_stopped_total", "Replicas that stopped because of an error."),
		snapshotsSent:     counter("snapshots_sent_total", "Snapshots that another replica has installed."),
		snapshotsReceived: counter("snapshots_installed_total", "Snapshots of other replicas that were installed here."),
		quarantined: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "waystation", Subsystem: "cluster", Name: "quarantined_replicas",
			Help: "Replicas of this node that are damaged and wait for their successors.",
		}, quarantined),
		strain: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "waystation", Subsystem: "cluster", Name: "log_hold_strain_ratio",
			Help: "How near the log kept for a snapshot under way is to its limit, 0 to 1: publishing slows down with it.",
		}, strain),
		logSync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "waystation", Subsystem: "cluster", Name: "log_sync_seconds",
			Help:    "Time to write and sync one batch of the raft log.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 18),
		}),
		logBatchBytes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "waystation", Subsystem: "cluster", Name: "log_batch_bytes",
			Help:    "Size of the batches written to the raft log.",
			Buckets: prometheus.ExponentialBuckets(256, 4, 9),
		}),
	}
	for _, c := range m.all() {
		if err := r.Register(c); err != nil {
			m.unregister(r)
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{
		m.proposals, m.applied, m.logEntries, m.logSync, m.logBatchBytes, m.truncations, m.replicasFailed,
		m.snapshotsSent, m.snapshotsReceived, m.quarantined, m.strain,
	}
}

func (m *metrics) unregister(r prometheus.Registerer) {
	for _, c := range m.all() {
		r.Unregister(c)
	}
}
