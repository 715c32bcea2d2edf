package fleet

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/waystation/waystation/loadtest/report"
)

func TestUsageAddsUp(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), make([]byte, 123), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		samples []sample
		want    report.Usage
	}{
		{
			"two incarnations: the peak, and sums",
			[]sample{{rss: 10, cpu: time.Second, disk: 5}, {rss: 7, cpu: 2 * time.Second, disk: 6}},
			report.Usage{RSSBytes: 10, CPU: 3 * time.Second, DiskBytes: 11},
		},
		{
			"writes are not told: what lies in the folder",
			[]sample{{rss: 10, cpu: time.Second, disk: -1}},
			report.Usage{RSSBytes: 10, CPU: time.Second, DiskBytes: 123},
		},
		{
			"a folder in memory",
			[]sample{{rss: 10, cpu: time.Second}},
			report.Usage{RSSBytes: 10, CPU: time.Second, DiskBytes: 123},
		},
	} {
		var u usage
		for _, s := range tc.samples {
			u.add(s)
		}
		if got := u.total(0, dir); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
	u := usage{unknown: true, rss: 5}
	if got, want := u.total(0, dir), (report.Usage{RSSBytes: -1, CPU: -1, DiskBytes: 123}); got != want {
		t.Errorf("unknown: got %+v, want %+v", got, want)
	}
}
