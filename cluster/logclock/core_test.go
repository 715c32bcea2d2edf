package logclock

import (
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const epoch = int64(1_700_000_000_000_000_000)

func TestCore(t *testing.T) {
	type step struct {
		passed, wall time.Duration // since the last step, by either clock
		want         time.Duration // log time since the start
	}
	for name, steps := range map[string][]step{
		"follows the wall clock": {{time.Second, time.Second, time.Second}, {time.Hour, time.Hour, time.Hour + time.Second}},
		"takes a small step at once": {
			{time.Second, 50 * time.Second, 50 * time.Second},
			{time.Second, time.Second, 51 * time.Second},
		},
		"never falls": {
			{10 * time.Second, 10 * time.Second, 10 * time.Second},
			{time.Second, -5 * time.Second, 10 * time.Second},
			{4 * time.Second, 4 * time.Second, 10 * time.Second},
			{4 * time.Second, 4 * time.Second, 13 * time.Second},
		},
		"gains slowly on a jump": {
			{time.Second, time.Hour + time.Second, 1100 * time.Millisecond},
			{time.Hour, time.Hour, 1100*time.Millisecond + 66*time.Minute},
			{10 * time.Hour, 10 * time.Hour, 12*time.Hour + time.Second}, // caught up
			{time.Second, time.Second, 12*time.Hour + 2*time.Second},
		},
		"forgets a jump that is taken back": {
			{0, time.Hour, 0},
			{0, -time.Hour, 0},
			{time.Second, time.Second, time.Second},
		},
		"a clock that was wrong for a moment has not jumped": {
			{0, -time.Hour, 0},
			{0, time.Hour, 0},
			{time.Second, time.Second, time.Second},
		},
		"a long silence is not a jump": {{5 * time.Hour, 5 * time.Hour, 5 * time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewCore(0, 0)
			c.Now(epoch, 0, Voters{})
			wall, mono := epoch, time.Duration(0)
			for i, s := range steps {
				wall += int64(s.wall)
				mono += s.passed
				if got := time.Duration(c.Now(wall, mono, Voters{}) - epoch); got != s.want {
					t.Fatalf("step %d: %s, want %s", i, got, s.want)
				}
			}
		})
	}
}

func TestDowntimeIsTaken(t *testing.T) {
	week := int64(7 * 24 * time.Hour)
	if got := NewCore(epoch, 0).Now(epoch+week, 0, Voters{}); got != epoch+week {
		t.Fatal(got)
	}
	if got := NewCore(epoch, 0).Now(epoch-week, 0, Voters{}); got != epoch {
		t.Fatalf("log time fell behind the state's: %d", got-epoch)
	}
}

// How often the clocks are read must not move log time.
func TestReadingOftenDoesNotLeak(t *testing.T) {
	c := NewCore(0, 0)
	now := c.Now(epoch, 0, Voters{})
	for i := range 1_000_001 {
		noise := int64(i%3-1) * 200
		now = c.Now(epoch+int64(time.Hour)+int64(i)*1000+noise, time.Duration(i)*1000, Voters{})
	}
	if got := time.Duration(now - epoch); got != 1100*time.Millisecond || c.Lag() < 59*time.Minute {
		t.Fatalf("gained %s in one second, %s to go", got, c.Lag())
	}
}

func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := NewCore(epoch, 0)
		c.Now(epoch, 0, Voters{})
		wall, mono, last := epoch, time.Duration(0), epoch
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			passed := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "passed"))
			extra := rapid.Int64Range(-int64(time.Hour), int64(time.Hour)).Draw(t, "extra")
			mono += passed
			wall += int64(passed) + extra
			now := c.Now(wall, mono, Voters{})
			if now < last {
				t.Fatalf("fell by %d", last-now)
			}
			if now-last > int64(passed+passed/slewShare+Jump) {
				t.Fatalf("advanced %s in %s", time.Duration(now-last), passed)
			}
			last = now
		}
	})
}

func TestClockIsMonotonicAmongGoroutines(t *testing.T) {
	c := New(time.Now().Add(time.Hour).UnixMilli(), time.Now)
	start := c.NowMs()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := start
			for range 10_000 {
				now := c.NowMs()
				if now < last {
					t.Errorf("fell from %d to %d", last, now)
					return
				}
				last = now
			}
		})
	}
	wg.Wait()
	c.Raise(start + 5000)
	if c.NowMs() < start+5000 || c.Lag() != 0 {
		t.Fatal("raise was ignored")
	}
}
