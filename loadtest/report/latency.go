package report

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency collects durations from several goroutines at the same time, with
// three significant digits from 1 µs to an hour.
type Latency struct {
	shards [latencyShards]latencyShard
}

// latencyShards keeps goroutines apart; each shard costs about 200 KiB.
const latencyShards = 4

type latencyShard struct {
	mu   sync.Mutex
	hist *hdrhistogram.Histogram
	_    [40]byte // a cache line of its own
}

const (
	shortest = int64(1)
	longest  = int64(time.Hour / time.Microsecond)
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(shortest, longest, 3) }

// NewLatency returns an empty collection.
func NewLatency() *Latency {
	l := &Latency{}
	for i := range l.shards {
		l.shards[i].hist = newHistogram()
	}
	return l
}

// Record adds d. Callers that give different keys seldom wait for each other.
func (l *Latency) Record(key int, d time.Duration) {
	s := &l.shards[uint(key)%latencyShards]
	us := min(max(d.Microseconds(), shortest), longest)
	s.mu.Lock()
	// In range, so it cannot err.
	_ = s.hist.RecordValue(us)
	s.mu.Unlock()
}

// Quantiles are what is told of a latency, in milliseconds.
type Quantiles struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// Quantiles returns the figures over everything recorded; zeros when nothing was.
func (l *Latency) Quantiles() Quantiles {
	all := newHistogram()
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		all.Merge(s.hist)
		s.mu.Unlock()
	}
	if all.TotalCount() == 0 {
		return Quantiles{}
	}
	at := func(q float64) float64 { return float64(all.ValueAtQuantile(q)) / 1000 }
	return Quantiles{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(all.Max()) / 1000}
}
