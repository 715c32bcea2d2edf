package drive

import (
	"testing"
	"time"
)

func TestTimelineBack(t *testing.T) {
	// 100/s, but for what is left out; a speed is taken over half a second.
	line := func(without ...[2]time.Duration) *timeline {
		l := newTimeline(10 * time.Second)
		for at := time.Duration(0); at < 10*time.Second; at += 10 * time.Millisecond {
			missing := false
			for _, w := range without {
				missing = missing || at >= w[0] && at < w[1]
			}
			if !missing {
				l.note(at)
			}
		}
		return l
	}
	const from, until, end = 2 * time.Second, 4 * time.Second, 8 * time.Second
	for _, tc := range []struct {
		name string
		line *timeline
		want time.Duration
		ok   bool
	}{
		{"never away", line(), 0, true},
		{"away before", line([2]time.Duration{time.Second, from}), 0, true},
		{"away at once", line([2]time.Duration{from, 3 * time.Second}), 950 * time.Millisecond, true},
		{"away a little later", line([2]time.Duration{3 * time.Second, 5 * time.Second}), 2950 * time.Millisecond, true},
		{"away for another reason", line([2]time.Duration{5 * time.Second, 6 * time.Second}), 0, true},
		{"not back", line([2]time.Duration{3 * time.Second, 9 * time.Second}), 6 * time.Second, false},
	} {
		if got, ok := tc.line.back(from, until, end, 90); got != tc.want || ok != tc.ok {
			t.Errorf("%s: %v, %v; want %v, %v", tc.name, got, ok, tc.want, tc.ok)
		}
	}
	if got := line([2]time.Duration{from, 3 * time.Second}).mean(from, until); got != 50 {
		t.Errorf("%v/s in the mean, want 50", got)
	}
}
