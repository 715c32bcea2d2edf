package cadence

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestUntil(t *testing.T) {
	base := time.Unix(1_700_000_000, 0)
	for into, want := range map[time.Duration]time.Duration{
		0:                      200 * time.Millisecond,
		time.Millisecond:       199 * time.Millisecond,
		150 * time.Millisecond: 50 * time.Millisecond,
		151 * time.Millisecond: 249 * time.Millisecond,
		199 * time.Millisecond: 201 * time.Millisecond,
	} {
		if got := Until(base.Add(into), 200*time.Millisecond); got != want {
			t.Errorf("%s into a period: %s, want %s", into, got, want)
		}
	}
}

// Two loops that began at different moments wake at the same ones.
func TestLoopsWakeTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := func(n int, period time.Duration) (at time.Time) {
			for range n {
				time.Sleep(Until(time.Now(), period)) // the bubble's clock, not the machine's
				at = time.Now()
			}
			return at
		}
		ends := make(chan time.Time, 2)
		go func() { ends <- turns(10, 200*time.Millisecond) }()
		time.Sleep(37 * time.Millisecond)
		go func() { ends <- turns(2, time.Second) }()
		if a, b := <-ends, <-ends; !a.Equal(b) {
			t.Errorf("one woke at %s, one at %s", a, b)
		}
	})
}
