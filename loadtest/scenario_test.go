package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waystation/waystation/loadtest/report"
)

// scenario runs one in a short form. On a busy machine it may miss its goal, which
// is one of speed; the promises hold there too.
func scenario(t *testing.T, args string) *report.Scenario {
	t.Helper()
	page := filepath.Join(t.TempDir(), "page.html")
	code, stdout, stderr := loadtest(t, short+args+" --html "+page)
	var r report.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code == exitUsage || code == exitFailed {
		t.Fatalf("exit %d, %v\n%s%s", code, err, stdout, stderr)
	}
	s := r.Scenario
	if s == nil || r.Lost+r.Duplicated+r.Reordered+r.StaleAccepted > 0 || r.Acked == 0 || r.Verdict != "ok" && r.Verdict != strings.Join(s.Missed, ", ") {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	html, err := os.ReadFile(page)
	if err != nil || !strings.Contains(string(html), "<svg") {
		t.Errorf("%v: no picture in %d bytes", err, len(html))
	}
	t.Log(r.Verdict, s.Figures)
	return s
}

func TestWorkersDie(t *testing.T) {
	s := scenario(t, "--scenario workers-die:every=1s --workers 4 --lease 1s --repos 50 --rate 300 --duration 3s --drain 2m")
	if s.Figures["deaths"] < 1 || s.Figures["two_holders"] != 0 {
		t.Errorf("got %v", s.Figures)
	}
}

func TestIsolation(t *testing.T) {
	s := scenario(t, "--scenario isolation:every=400ms --repos 200 --rate 300 --duration 1700ms --drain 2m")
	if len(s.Missed) == 0 && s.Figures["with_phases"] == 0 {
		t.Errorf("got %v", s.Figures)
	}
}

func TestBacklog(t *testing.T) {
	s := scenario(t, "--scenario backlog:depth=5,small=0.1 --repos 300 --drain 2m")
	if s.Figures["large_packets"] != 1500 || s.Figures["small_packets"] != 150 || s.Figures["left"] != 0 || s.Figures["large_first_ms"] <= 0 {
		t.Errorf("got %v", s.Figures)
	}
}
