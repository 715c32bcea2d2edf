package actors

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/actors/repository"
)

// metrics are what the publish side and the partitions count. No label ever
// carries a repository.
type metrics struct {
	batchPackets    prometheus.Histogram
	publishDuration *durations
	refusals        *prometheus.CounterVec
	byReason        map[string]prometheus.Counter
	deduplicated    prometheus.Counter
	restarts        prometheus.Counter
	dead            *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		batchPackets: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "waystation_batch_packets", Help: "Packets in a proposed entry.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 13),
		}),
		publishDuration: newDurations("waystation_publish_duration_seconds", "From a packet's arrival to its receipt."),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waystation_refusals_total", Help: "Packets that were refused, by reason.",
		}, []string{"reason"}),
		byReason: make(map[string]prometheus.Counter),
		deduplicated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "waystation_deduplicated_total", Help: "Packets that were sent again and got their first receipt.",
		}),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "waystation_actor_restarts_total", Help: "Restarts of repository actors that failed.",
		}),
		dead: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waystation_dead_letters_total", Help: "Packets that became dead letters, by group and reason.",
		}, []string{"group", "reason"}),
	}
	for _, reason := range []string{
		reasonInvalid, reasonMailbox, reasonBudget, reasonInFlight, reasonBacklog, reasonGap, reasonFenced,
		reasonProducer, reasonTooOld, reasonUnknown, reasonNotLeader, reasonActors, reasonParked, reasonPanic,
		reasonStopping, reasonInternal, reasonDisk, reasonHold,
	} {
		m.byReason[reason] = m.refusals.WithLabelValues(reason)
	}
	return m
}

func (m *metrics) refused(r *Refusal, n int) {
	if c, ok := m.byReason[r.reason]; ok {
		c.Add(float64(n))
	}
}

// register registers all collectors, or none.
func (r *Relay) register(reg prometheus.Registerer) error {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	collectors := []prometheus.Collector{
		r.metrics.batchPackets, r.metrics.publishDuration, r.metrics.refusals, r.metrics.deduplicated,
		r.metrics.restarts, r.metrics.dead,
		gauge("waystation_intake_bytes", "Bytes that were taken in and are not proposed yet.", func() float64 {
			return float64(r.intake.used())
		}),
		gauge("waystation_actors_active", "Active repository actors.", func() float64 {
			return float64(r.active.Load())
		}),
		gauge("waystation_actors_parked", "Repositories whose actor kept failing and is stopped.", func() float64 {
			return float64(len(r.ParkedRepositories()))
		}),
		&depthCollector{relay: r, depth: prometheus.NewDesc("waystation_queue_depth",
			"Packets that wait in a group, by priority.", []string{"group", "priority"}, nil)},
	}
	for i, c := range collectors {
		if err := reg.Register(c); err != nil {
			for _, done := range collectors[:i] {
				reg.Unregister(done)
			}
			return err
		}
	}
	return nil
}

// depthCollector sums what waits over the partitions that this node leads, when
// somebody asks.
type depthCollector struct {
	relay *Relay
	depth *prometheus.Desc
}

func (c *depthCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.depth }

func (c *depthCollector) Collect(ch chan<- prometheus.Metric) {
	for group, waiting := range c.relay.Depths() {
		for rank, n := range waiting {
			ch <- prometheus.MustNewConstMetric(c.depth, prometheus.GaugeValue, float64(n),
				group, repository.Rank(rank).String())
		}
	}
}
