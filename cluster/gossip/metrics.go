package gossip

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	members   prometheus.Gauge
	changes   prometheus.Counter
	joins     *prometheus.CounterVec
	refused   *prometheus.CounterVec
	conflicts prometheus.Counter
	keyLoads  prometheus.Counter
	keyErrors prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "waystation", Subsystem: "gossip", Name: name, Help: help}
	}
	m := &metrics{
		members:   prometheus.NewGauge(prometheus.GaugeOpts(opts("members", "Members that gossip holds to be alive, this node too."))),
		changes:   prometheus.NewCounter(prometheus.CounterOpts(opts("changes_total", "Members that came, went, or changed their record."))),
		joins:     prometheus.NewCounterVec(prometheus.CounterOpts(opts("joins_total", "Tries to join an address.")), []string{"result"}),
		refused:   prometheus.NewCounterVec(prometheus.CounterOpts(opts("refused_total", "Packets, streams and member records that were refused.")), []string{"reason"}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts(opts("conflicts_total", "Times that two running processes had one node id."))),
		keyLoads:  prometheus.NewCounter(prometheus.CounterOpts(opts("key_reloads_total", "Times that other keys were taken from the key file."))),
		keyErrors: prometheus.NewCounter(prometheus.CounterOpts(opts("key_reload_errors_total", "Times that a changed key file could not be used."))),
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
	return []prometheus.Collector{m.members, m.changes, m.joins, m.refused, m.conflicts, m.keyLoads, m.keyErrors}
}

func (m *metrics) unregister(r prometheus.Registerer) {
	for _, c := range m.all() {
		r.Unregister(c)
	}
}

func (m *metrics) refuse(reason string) { m.refused.WithLabelValues(reason).Inc() }

func (m *metrics) joined(err error) {
	if err != nil {
		m.joins.WithLabelValues("error").Inc()
		return
	}
	m.joins.WithLabelValues("ok").Inc()
}
