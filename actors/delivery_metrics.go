package actors

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// deliveryMetrics are what the delivery side counts.
type deliveryMetrics struct {
	delivery *groupDurations
	process  *groupDurations
	expired  prometheus.Counter
	damaged  prometheus.Counter
}

func newDeliveryMetrics(reg prometheus.Registerer) (m deliveryMetrics, err error) {
	m = deliveryMetrics{
		delivery: newGroupDurations("waystation_delivery_duration_seconds", "From a packet's acceptance to its hand-out."),
		process:  newGroupDurations("waystation_process_duration_seconds", "From a packet's hand-out to its settlement."),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "waystation_actors_expired_leases_total", Help: "Leases that ran out.",
		}),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "waystation_actors_damaged_payloads_total", Help: "Packets whose stored bytes are not those that were accepted.",
		}),
	}
	collectors := []prometheus.Collector{m.delivery, m.process, m.expired, m.damaged}
	for i, c := range collectors {
		if err := reg.Register(c); err != nil {
			for _, done := range collectors[:i] {
				reg.Unregister(done)
			}
			return m, err
		}
	}
	return m, nil
}

// groupDurations is one durations for each group.
type groupDurations struct {
	desc *prometheus.Desc

	mu     sync.Mutex
	groups map[string]*durations
}

func newGroupDurations(name, help string) *groupDurations {
	return &groupDurations{
		desc: prometheus.NewDesc(name, help, []string{"group"}, nil), groups: map[string]*durations{},
	}
}

// of returns the group's durations, to be kept by who adds to them often.
func (v *groupDurations) of(group string) *durations {
	v.mu.Lock()
	defer v.mu.Unlock()
	d := v.groups[group]
	if d == nil {
		d = &durations{desc: v.desc}
		v.groups[group] = d
	}
	return d
}

// Describe sends the one descriptor.
func (v *groupDurations) Describe(ch chan<- *prometheus.Desc) { ch <- v.desc }

// Collect sends each group's histogram.
func (v *groupDurations) Collect(ch chan<- prometheus.Metric) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for group, d := range v.groups {
		ch <- d.metric(group)
	}
}

// metric is the histogram as it is now.
func (d *durations) metric(labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64, durationBuckets)
	var total uint64
	for i := range durationBuckets {
		total += d.counts[i].Load()
		buckets[(time.Microsecond << (i + firstBucketLog2)).Seconds()] = total
	}
	total += d.counts[durationBuckets].Load()
	return prometheus.MustNewConstHistogram(d.desc, total, time.Duration(d.sum.Load()).Seconds(), buckets, labels...)
}
