package report

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/waystation/waystation/loadtest/verify"
)

func TestMissedGoalShowsInTheVerdict(t *testing.T) {
	r := New(verify.Totals{}, Figures{})
	r.Add(nil)
	if !r.OK() {
		t.Errorf("verdict %q without a scenario", r.Verdict)
	}
	r.Add(&Scenario{Name: "x", Missed: []string{"too slow"}})
	if r.OK() || r.Verdict != "too slow" {
		t.Errorf("verdict %q", r.Verdict)
	}
	r = New(verify.Totals{Lost: 1}, Figures{})
	r.Add(&Scenario{Name: "x", Missed: []string{"too slow"}})
	if r.Verdict != "1 lost, too slow" {
		t.Errorf("verdict %q", r.Verdict)
	}
}

func TestPageIsWhole(t *testing.T) {
	plots := []Plot{
		{Title: "a < b", X: "s", Y: "1/s", Series: []Series{{"one", [][2]float64{{0, 1}, {1, 17_000}}}, {"two", [][2]float64{{0, 3}}}}},
		{Title: "logarithmic", X: "depth", Y: "ms", LogX: true, LogY: true, Series: []Series{{"one", [][2]float64{{1, 0.5}, {1000, 70}}}}},
		{Title: "nothing", X: "x", Y: "y"},
		{Title: "zeros", X: "x", Y: "y", LogX: true, Series: []Series{{"none", [][2]float64{{0, 0}}}}},
	}
	r := New(verify.Totals{}, Figures{})
	r.Add(&Scenario{Name: "x", Lines: []string{"a & b"}, Plots: plots})
	var page strings.Builder
	if err := r.WriteHTML(&page, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a &lt; b", "a &amp; b"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if strings.Contains(page.String(), "NaN") || strings.Contains(page.String(), "Inf") {
		t.Errorf("a place that is none:\n%s", page.String())
	}
	for i := range plots {
		d := xml.NewDecoder(strings.NewReader(plots[i].SVG()))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", plots[i].Title, err)
			}
		}
	}
}
