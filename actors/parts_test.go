package actors

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A wait is tried, given up for longer and longer while nobody comes, and tried
// again at once when somebody did; what is urgent, or much, never waits.
func TestLingerLearns(t *testing.T) {
	l := linger{most: time.Millisecond}
	if l.ask(1, true) != 0 || l.ask(fewPackets, false) != 0 {
		t.Error("waited with something urgent, or with enough")
	}
	waits := 0
	for range 1000 { // one packet at a time, and nobody ever comes
		if l.ask(1, false) > 0 {
			waits++
			if l.ask(1, false) != 0 {
				t.Fatal("waited twice for one entry")
			}
		}
	}
	if waits == 0 || waits > 12 {
		t.Errorf("waited %d of 1000 times for nobody", waits)
	}
	l = linger{most: time.Millisecond}
	for i := range 100 { // each wait brings another packet
		if l.ask(1, false) == 0 || l.ask(2, false) != 0 {
			t.Fatalf("entry %d: did not wait for company that comes", i)
		}
	}
	if l = (linger{}); l.ask(1, false) != 0 {
		t.Error("waited with no time to wait")
	}
}

// With a linger, packets that come one by one share an entry, and none waits for ever.
func TestLingerGathers(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Partitions, c.Linger = 1, 50*time.Millisecond })
	before := h.proposer.last(1)
	sink := newSink(t)
	for i := range uint64(4) {
		h.offer(sink, i, plain(fmt.Sprint("r", i), "x"))
	}
	for i := range uint64(4) {
		if a := sink.await(i); a.refusal != nil {
			t.Errorf("packet %d: %+v", i, a)
		}
	}
	if n := h.proposer.last(1) - before; n != 1 {
		t.Errorf("%d entries for 4 packets within the linger", n)
	}
}

// Durations fall into the bucket whose upper bound is the next power of two.
func TestDurations(t *testing.T) {
	d := newDurations("x_seconds", "Some.")
	var counted tally
	for _, v := range []time.Duration{
		-time.Second, 0, 64 * time.Microsecond, 65 * time.Microsecond, 128 * time.Microsecond, time.Second, time.Hour,
	} {
		counted.add(v)
	}
	d.add(&counted)
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(d); err != nil {
		t.Fatal(err)
	}
	got, err := reg.Gather()
	if err != nil || len(got) != 1 {
		t.Fatalf("gather: %v %v", got, err)
	}
	hist := got[0].GetMetric()[0].GetHistogram()
	if hist.GetSampleCount() != 7 || hist.GetBucket()[0].GetCumulativeCount() != 3 ||
		hist.GetBucket()[1].GetCumulativeCount() != 5 || hist.GetBucket()[durationBuckets-1].GetCumulativeCount() != 6 {
		t.Errorf("histogram %v", hist)
	}
	if b := hist.GetBucket()[0].GetUpperBound(); b != 64e-6 {
		t.Errorf("the first bucket ends at %v", b)
	}
}

// countingSink counts its calls and results.
type countingSink struct{ calls, results int }

func (s *countingSink) Results(rs []PublishResult) {
	s.calls++
	s.results += len(rs)
}

// However many streams an entry answers, each gets its results in one call.
func TestAnswersGoInOneCall(t *testing.T) {
	for _, n := range []int{1, fewSinks - 1, fewSinks, fewSinks + 1, 5 * fewSinks} {
		var a answers
		sinks := make([]countingSink, n)
		for round := range 3 {
			for i := range 4 * n {
				a.next(&sinks[i*7%n]).Index = uint64(i)
			}
			a.flush()
			for i := range sinks {
				if sinks[i].calls != round+1 {
					t.Fatalf("%d sinks, round %d: sink %d was called %d times", n, round, i, sinks[i].calls)
				}
			}
		}
		total := 0
		for i := range sinks {
			total += sinks[i].results
		}
		if total != 12*n {
			t.Errorf("%d sinks got %d results, want %d", n, total, 12*n)
		}
	}
}

// Actors that are stuck take a worker each. The others are served all the same.
func TestStuckActorsDoNotStopTheDispatcher(t *testing.T) {
	d := newDispatcher()
	block := make(chan struct{})
	for range d.most {
		d.Schedule(func() { <-block })
	}
	var ran atomic.Bool
	await(t, "all workers to be stuck", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.queue.len() == 0
	})
	d.Schedule(func() { ran.Store(true) })
	d.reinforce() // sees that work was taken
	d.reinforce() // and now that none was
	await(t, "the work behind the stuck", ran.Load)
	close(block)
	d.close()
}

// Everything scheduled runs once, from whichever goroutine, and before close ends.
func TestDispatcherRunsAll(t *testing.T) {
	d := newDispatcher()
	var ran atomic.Int64
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for range 1000 {
				d.Schedule(func() { ran.Add(1) })
			}
		})
	}
	senders.Wait()
	d.close()
	if ran.Load() != 4000 {
		t.Errorf("%d of 4000 ran", ran.Load())
	}
}

// The metrics have their fixed names, and count what has happened.
func TestMetrics(t *testing.T) {
	h := newHarness(t, nil)
	h.group("g")
	pos := position("r", "p", 1, 1, "x")
	h.publish(pos, position("r", "p", 1, 2, "y"), position("r", "p", 1, 9, "z"), plain("", "no name"))
	h.publish(pos)
	for metric, want := range map[string]float64{
		"waystation_deduplicated_total":                  1,
		"waystation_actors_active":                       1,
		"waystation_actors_parked":                       0,
		"waystation_intake_bytes":                        0,
		"waystation_actor_restarts_total":                0,
		"waystation_batch_packets":                       1 + 2,
		"waystation_publish_duration_seconds":            2,
		"waystation_refusals_total reason=gap":           1,
		"waystation_refusals_total reason=invalid":       1,
		"waystation_refusals_total reason=mailbox":       0,
		"waystation_queue_depth group=g priority=high":   0,
		"waystation_queue_depth group=g priority=normal": 2,
		"waystation_queue_depth group=g priority=low":    0,
	} {
		if got, ok := gather(t, h.registry)[metric]; !ok || got != want {
			t.Errorf("%s is %v (there: %v), want %v", metric, got, ok, want)
		}
	}
	if _, err := NewRelay(testConfig(), h.proposer, h.state, h.relay.logger, h.registry); err == nil {
		t.Error("a second relay registered the same metrics")
	}
}

// gather lists all metrics by name and labels; a histogram has its count.
func gather(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			all[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}

// All faults of a configuration are named at once.
func TestConfigValidate(t *testing.T) {
	ok := DefaultConfig()
	if err := ok.Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	err := (&Config{Partitions: 1 << 17, Linger: time.Second, RestartMin: 2, RestartMax: 1}).Validate()
	if err == nil {
		t.Fatal("nothing was wrong")
	}
	for _, fault := range []string{"mailbox packets", "at most 65,536", "linger", "restart delay: largest", "content limit", "intake bytes"} {
		if !strings.Contains(err.Error(), fault) {
			t.Errorf("%q is not named in: %v", fault, err)
		}
	}
}

// Where a repository lies is part of the storage format: it may never change.
func TestPartitionOfIsFixed(t *testing.T) {
	// With the seeds 0 and 42.
	for repo, want := range map[string]string{"acme/api": "2 6", "r": "4 13", "日本/コード": "8 13"} {
		if got := fmt.Sprint(PartitionOf(0, 16, []byte(repo)), PartitionOf(42, 16, []byte(repo))); got != want {
			t.Errorf("%s: partitions %s, want %s", repo, got, want)
		}
	}
	var counts [16]int
	for i := range 16_000 {
		counts[PartitionOf(7, 16, fmt.Appendf(nil, "org/repository-%d", i))]++
	}
	for p, n := range counts {
		if n < 850 || n > 1150 {
			t.Errorf("partition %d has %d of 16,000 repositories", p, n)
		}
	}
}
