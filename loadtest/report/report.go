// Package report turns what a load test saw into figures and a verdict, for
// people and as JSON.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/waystation/waystation/loadtest/verify"
)

// Report is the result of a run: the JSON object, field by field.
type Report struct {
	Sent          int64 `json:"sent"`
	Acked         int64 `json:"acked"`
	Rejected      int64 `json:"rejected"`
	Unknown       int64 `json:"unknown"`
	Deduplicated  int64 `json:"deduplicated"`
	Delivered     int64 `json:"delivered"`
	Settled       int64 `json:"settled"`
	Dead          int64 `json:"dead"`
	Redelivered   int64 `json:"redelivered"`
	Lost          int64 `json:"lost"`
	Duplicated    int64 `json:"duplicated"`
	Reordered     int64 `json:"reordered"`
	StaleAccepted int64 `json:"stale_accepted"`

	AckedPerS   float64   `json:"acked_per_s"`
	SettledPerS float64   `json:"settled_per_s"`
	AckMs       Quantiles `json:"ack_ms"`
	DeliveryMs  Quantiles `json:"delivery_ms"`
	MaxGapMs    float64   `json:"max_gap_ms"`

	// What only the run's own nodes tell, and not on every system; else absent.
	RSSMb              *float64 `json:"rss_mb,omitempty"`
	CPUSPerMillion     *float64 `json:"cpu_s_per_million,omitempty"`
	DiskBytesPerPacket *float64 `json:"disk_bytes_per_packet,omitempty"`

	Nodes      int    `json:"nodes"`
	Partitions int    `json:"partitions"`
	Seed       uint64 `json:"seed"`
	Verdict    string `json:"verdict"`

	// Scenario is what was found out about one; absent without.
	Scenario *Scenario `json:"scenario,omitempty"`
}

// Figures are a run's measurements.
type Figures struct {
	// Measured is how long figures were taken; Acked and Settled happened in that time.
	Measured       time.Duration
	Acked, Settled int64
	Ack, Delivery  Quantiles
	Gap            time.Duration
	Nodes          int
	Partitions     int
	Seed           uint64
	// Usage of the run's own nodes in the measured time, but for the peak; nil for targets.
	Usage *Usage
}

// Usage is what the run's own nodes took. A negative value is not known.
type Usage struct {
	// RSSBytes is the peak, summed over the nodes.
	RSSBytes int64
	// CPU of all nodes in user and system mode.
	CPU time.Duration
	// DiskBytes were written.
	DiskBytes int64
}

// Since returns what was taken after an earlier look. The peak stays that of all the time; what
// one of the two does not tell, or cannot have shrunk and did, is not known.
func (u Usage) Since(earlier Usage) Usage {
	u.CPU = since(u.CPU, earlier.CPU)
	u.DiskBytes = since(u.DiskBytes, earlier.DiskBytes)
	return u
}

func since[T ~int64](now, earlier T) T {
	if earlier < 0 || now < earlier {
		return -1
	}
	return now - earlier
}

// New makes a report of an account and the figures.
func New(t verify.Totals, f Figures) Report {
	r := Report{
		Sent: t.Sent, Acked: t.Acked, Rejected: t.Rejected, Unknown: t.Unknown,
		Deduplicated: t.Deduplicated, Delivered: t.Delivered, Settled: t.Settled, Dead: t.Dead,
		Redelivered: t.Redelivered, Lost: t.Lost, Duplicated: t.Duplicated,
		Reordered: t.Reordered, StaleAccepted: t.StaleAccepted,
		AckMs: f.Ack, DeliveryMs: f.Delivery, MaxGapMs: round(float64(f.Gap.Microseconds()) / 1000),
		Nodes: f.Nodes, Partitions: f.Partitions, Seed: f.Seed,
		Verdict: Verdict(t),
	}
	if s := f.Measured.Seconds(); s > 0 {
		r.AckedPerS, r.SettledPerS = round(float64(f.Acked)/s), round(float64(f.Settled)/s)
	}
	if u := f.Usage; u != nil {
		acked := float64(max(f.Acked, 1))
		r.RSSMb = known(u.RSSBytes >= 0, float64(u.RSSBytes)/(1<<20))
		r.CPUSPerMillion = known(u.CPU >= 0, u.CPU.Seconds()/acked*1e6)
		r.DiskBytesPerPacket = known(u.DiskBytes >= 0, float64(u.DiskBytes)/acked)
	}
	return r
}

func known(is bool, value float64) *float64 {
	if !is {
		return nil
	}
	value = round(value)
	return &value
}

// round keeps three decimals: no figure here means more.
func round(x float64) float64 { return math.Round(x*1000) / 1000 }

// Verdict returns "ok", or what was violated and how often.
func Verdict(t verify.Totals) string {
	var violated []string
	for _, v := range []struct {
		count int64
		what  string
	}{
		{t.Lost, "lost"},
		{t.Duplicated, "duplicated"},
		{t.Reordered, "reordered"},
		{t.StaleAccepted, "stale_accepted"},
		{t.Corrupt, "with content that nobody sent"},
		{t.Unmarked, "resent and not marked duplicate"},
		{t.Unnumbered, "without a number"},
		{t.NotLinear, "with a history that is not linearizable"},
		{t.TwoHolders, "held by two workers at a time"},
	} {
		if v.count > 0 {
			violated = append(violated, fmt.Sprintf("%d %s", v.count, v.what))
		}
	}
	if len(violated) == 0 {
		return "ok"
	}
	return strings.Join(violated, ", ")
}

// OK says whether every promise held.
func (r *Report) OK() bool { return r.Verdict == "ok" }

// WriteJSON writes the report as one indented object and a newline.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// WriteText writes the report for people. worked says whether workers took part.
func (r *Report) WriteText(w io.Writer, worked bool) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s "+format+"\n", append([]any{name}, args...)...)
	}
	line("sent", "%d: %d acknowledged, %d rejected, %d unknown; %d receipts marked duplicate",
		r.Sent, r.Acked, r.Rejected, r.Unknown, r.Deduplicated)
	line("speed", "%.0f acknowledged/s, %.0f settled/s; longest time without a receipt %.0f ms", r.AckedPerS, r.SettledPerS, r.MaxGapMs)
	line("ack", "%v", r.AckMs)
	if worked {
		line("worked", "%d delivered, %d settled, %d dead, %d redelivered", r.Delivered, r.Settled, r.Dead, r.Redelivered)
		line("delivery", "%v", r.DeliveryMs)
	}
	if usage := r.usage(); usage != "" {
		line("nodes", "%d with %d partitions: %s", r.Nodes, r.Partitions, usage)
	} else {
		line("nodes", "%d with %d partitions", r.Nodes, r.Partitions)
	}
	if r.Scenario != nil {
		for _, text := range r.Scenario.Lines {
			line(r.Scenario.Name, "%s", text)
		}
	}
	line("promises", "%d lost, %d duplicated, %d reordered, %d stale accepted", r.Lost, r.Duplicated, r.Reordered, r.StaleAccepted)
	line("verdict", "%s (seed %d)", r.Verdict, r.Seed)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (r *Report) usage() string {
	var parts []string
	for _, p := range []struct {
		value  *float64
		format string
	}{
		{r.RSSMb, "%.0f MB at most"},
		{r.CPUSPerMillion, "%.2f CPU s per million packets"},
		{r.DiskBytesPerPacket, "%.0f bytes written per packet"},
	} {
		if p.value != nil {
			parts = append(parts, fmt.Sprintf(p.format, *p.value))
		}
	}
	return strings.Join(parts, ", ")
}

// String is one line.
func (q Quantiles) String() string {
	return fmt.Sprintf("p50 %.2f ms, p90 %.2f, p99 %.2f, p99.9 %.2f, max %.2f", q.P50, q.P90, q.P99, q.P999, q.Max)
}
