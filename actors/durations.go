package actors

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// durationBuckets are powers of two from 64 µs to about 33 s.
const (
	durationBuckets = 20
	firstBucketLog2 = 6 // of microseconds
)

// tally gathers durations without sharing, to be added to durations at once: an
// entry has hundreds of packets, and a shared histogram costs more than their
// whole way through the relay.
type tally struct {
	counts [durationBuckets + 1]uint32
	n      uint32
	sum    time.Duration
}

func (t *tally) add(d time.Duration) {
	us := uint64(max(d, 0) / time.Microsecond)
	at := 0
	if us > 0 {
		at = min(max(bits.Len64(us-1)-firstBucketLog2, 0), durationBuckets)
	}
	t.counts[at]++
	t.n++
	t.sum += d
}

// durations is a histogram that takes tallies.
type durations struct {
	desc   *prometheus.Desc
	counts [durationBuckets + 1]atomic.Uint64
	sum    atomic.Int64
}

func newDurations(name, help string) *durations {
	return &durations{desc: prometheus.NewDesc(name, help, nil, nil)}
}

func (d *durations) add(t *tally) {
	if t.n == 0 {
		return
	}
	for i, n := range t.counts {
		if n > 0 {
			d.counts[i].Add(uint64(n))
		}
	}
	d.sum.Add(int64(t.sum))
}

// Describe sends the one descriptor.
func (d *durations) Describe(ch chan<- *prometheus.Desc) { ch <- d.desc }

// Collect sends the histogram as it is now.
func (d *durations) Collect(ch chan<- prometheus.Metric) {
	buckets := make(map[float64]uint64, durationBuckets)
	var total uint64
	for i := range durationBuckets {
		total += d.counts[i].Load()
		buckets[(time.Microsecond << (i + firstBucketLog2)).Seconds()] = total
	}
	total += d.counts[durationBuckets].Load()
	ch <- prometheus.MustNewConstHistogram(d.desc, total, time.Duration(d.sum.Load()).Seconds(), buckets)
}
