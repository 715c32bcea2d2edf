package report

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/loadtest/verify"
)

func TestVerdict(t *testing.T) {
	good := verify.Totals{
		Sent: 9, Acked: 7, Rejected: 1, Unknown: 1, Deduplicated: 2,
		Delivered: 7, Settled: 6, Dead: 1, Redelivered: 3,
	}
	if got := Verdict(good); got != "ok" {
		t.Errorf("got %q", got)
	}
	for _, tc := range []struct {
		change func(*verify.Totals)
		want   string
	}{
		{func(t *verify.Totals) { t.Lost = 1 }, "1 lost"},
		{func(t *verify.Totals) { t.Duplicated = 2 }, "2 duplicated"},
		{func(t *verify.Totals) { t.Reordered = 3 }, "3 reordered"},
		{func(t *verify.Totals) { t.StaleAccepted = 4 }, "4 stale_accepted"},
		{func(t *verify.Totals) { t.Corrupt = 5 }, "5 with content that nobody sent"},
		{func(t *verify.Totals) { t.Unmarked = 6 }, "6 resent and not marked duplicate"},
		{func(t *verify.Totals) { t.Unnumbered = 7 }, "7 without a number"},
		{func(t *verify.Totals) { t.NotLinear = 8 }, "8 with a history that is not linearizable"},
		{func(t *verify.Totals) { t.TwoHolders = 9 }, "9 held by two workers at a time"},
		{func(t *verify.Totals) { t.Lost, t.Reordered = 1, 2 }, "1 lost, 2 reordered"},
	} {
		totals := good
		tc.change(&totals)
		r := New(totals, Figures{})
		if r.Verdict != tc.want || r.OK() {
			t.Errorf("got %q, ok %v; want %q", r.Verdict, r.OK(), tc.want)
		}
	}
}

// The names are a contract: scripts read them.
func TestJSONFields(t *testing.T) {
	fields := func(f Figures) []string {
		r := New(verify.Totals{}, f)
		var b strings.Builder
		if err := r.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal([]byte(b.String()), &m); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"ack_ms", "delivery_ms"} {
			quantiles, _ := m[name].(map[string]any)
			if got := slices.Sorted(maps.Keys(quantiles)); !slices.Equal(got, []string{"max", "p50", "p90", "p99", "p999"}) {
				t.Errorf("%s has %v", name, got)
			}
		}
		return slices.Sorted(maps.Keys(m))
	}
	always := strings.Fields(`ack_ms acked acked_per_s dead deduplicated delivered delivery_ms duplicated lost max_gap_ms
		nodes partitions redelivered rejected reordered seed sent settled settled_per_s stale_accepted unknown verdict`)
	if got := fields(Figures{}); !slices.Equal(got, always) {
		t.Errorf("got %v", got)
	}
	own := append(slices.Clone(always), "rss_mb", "cpu_s_per_million", "disk_bytes_per_packet")
	slices.Sort(own)
	if got := fields(Figures{Usage: &Usage{}}); !slices.Equal(got, own) {
		t.Errorf("own nodes: got %v", got)
	}
	if got := fields(Figures{Usage: &Usage{RSSBytes: -1, CPU: -1, DiskBytes: -1}}); !slices.Equal(got, always) {
		t.Errorf("nothing known of own nodes: got %v", got)
	}
}

// What a run's nodes took before the measured time is not the load's; of a folder that shrank nobody
// knows what was written.
func TestUsageSince(t *testing.T) {
	before := Usage{RSSBytes: 1 << 20, CPU: 3 * time.Second, DiskBytes: 500}
	for _, tc := range []struct{ now, want Usage }{
		{Usage{RSSBytes: 2 << 20, CPU: 5 * time.Second, DiskBytes: 700}, Usage{RSSBytes: 2 << 20, CPU: 2 * time.Second, DiskBytes: 200}},
		{Usage{RSSBytes: -1, CPU: -1, DiskBytes: 400}, Usage{RSSBytes: -1, CPU: -1, DiskBytes: -1}},
	} {
		if got := tc.now.Since(before); got != tc.want {
			t.Errorf("got %+v, want %+v", got, tc.want)
		}
	}
	unknown := Usage{RSSBytes: -1, CPU: -1, DiskBytes: -1}
	if got := (Usage{RSSBytes: 1, CPU: 1, DiskBytes: 1}).Since(unknown); got != (Usage{RSSBytes: 1, CPU: -1, DiskBytes: -1}) {
		t.Errorf("got %+v", got)
	}
}

func TestFigures(t *testing.T) {
	r := New(verify.Totals{Acked: 2_000_000}, Figures{
		Measured: 15 * time.Second, Acked: 1_500_000, Settled: 750_000, Gap: 1500 * time.Microsecond,
		Usage: &Usage{RSSBytes: 100 << 20, CPU: 9 * time.Second, DiskBytes: 3_000_000_000},
	})
	for _, f := range []struct {
		name      string
		got, want float64
	}{
		{"acked_per_s", r.AckedPerS, 100_000},
		{"settled_per_s", r.SettledPerS, 50_000},
		{"max_gap_ms", r.MaxGapMs, 1.5},
		{"rss_mb", *r.RSSMb, 100},
		// Of the measured time, as the packets are by which it is divided: not of all that were sent.
		{"cpu_s_per_million", *r.CPUSPerMillion, 6},
		{"disk_bytes_per_packet", *r.DiskBytesPerPacket, 2000},
	} {
		if f.got != f.want {
			t.Errorf("%s: got %v, want %v", f.name, f.got, f.want)
		}
	}
	var b strings.Builder
	if err := r.WriteText(&b, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"100000 acknowledged/s", "100 MB", "6.00 CPU", "verdict", "ok"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("text lacks %q:\n%s", want, b.String())
		}
	}
}

func TestLatency(t *testing.T) {
	l := NewLatency()
	if got := l.Quantiles(); got != (Quantiles{}) {
		t.Errorf("empty: got %v", got)
	}
	for i := 1; i <= 1000; i++ {
		l.Record(i, time.Duration(i)*time.Millisecond)
	}
	got := l.Quantiles()
	for _, q := range []struct {
		name      string
		got, want float64
	}{{"p50", got.P50, 500}, {"p90", got.P90, 900}, {"p99", got.P99, 990}, {"p999", got.P999, 999}, {"max", got.Max, 1000}} {
		if math.Abs(q.got-q.want) > q.want/500 {
			t.Errorf("%s: got %v, want %v", q.name, q.got, q.want)
		}
	}
	// Beyond the range it is cut, not dropped.
	l.Record(-1, 2*time.Hour)
	l.Record(0, -time.Second)
	if got := l.Quantiles().Max; got < 3.59e6 {
		t.Errorf("max %v ms", got)
	}
}

func TestGap(t *testing.T) {
	const ms = time.Millisecond
	var g Gap
	g.Event(5 * ms) // not watched yet
	g.Begin(100 * ms)
	for _, at := range []time.Duration{110 * ms, 130 * ms, 120 * ms, 150 * ms} {
		g.Event(at)
	}
	if got := g.Longest(); got != 20*ms {
		t.Errorf("got %v, want 20ms", got)
	}
	g.End(200 * ms)
	g.Event(900 * ms)
	g.End(900 * ms)
	if got := g.Longest(); got != 50*ms {
		t.Errorf("got %v, want the 50ms before the end", got)
	}
}

func BenchmarkRecord(b *testing.B) {
	l := NewLatency()
	for i := range b.N {
		l.Record(i, time.Duration(i&0xfffff)*time.Microsecond)
	}
}
