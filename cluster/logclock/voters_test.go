package logclock

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestMedian(t *testing.T) {
	const low, high = math.MinInt64, math.MaxInt64
	for name, x := range map[string]struct {
		count       int
		own         int64
		others      []int64
		least, most int64
		skew        time.Duration
	}{
		"three, all known":              {3, 5, []int64{9, 1}, 5, 5, 0},
		"three, own is ahead":           {3, 90, []int64{4, 3}, 4, 4, 86},
		"three, own is behind":          {3, -90, []int64{4, 3}, 3, 3, -93},
		"three, one known":              {3, 5, []int64{9}, 5, 9, 0},
		"three, none known":             {3, 5, nil, low, high, 0},
		"five, all known":               {5, 5, []int64{1, 2, 8, 9}, 5, 5, 0},
		"five, own is ahead, one lacks": {5, 90, []int64{1, 2, 3}, 2, 3, 87},
		"five, two lack":                {5, 5, []int64{1, 9}, 1, 9, 0},
		"five, three lack":              {5, 5, []int64{9}, low, high, 0},
		"two":                           {2, 5, []int64{9}, 5, 9, 0},
		"two, one known":                {2, 5, nil, low, high, 0},
		"more than counted":             {1, 5, []int64{1, 9}, 5, 5, 0},
		"four":                          {4, 90, []int64{1, 2, 3}, 2, 3, 87},
		"alone":                         {1, 5, nil, 5, 5, 0},
	} {
		v := Voters{x.count, x.others}
		if least, most := v.median(x.own); least != x.least || most != x.most {
			t.Errorf("%s: %d to %d, want %d to %d", name, least, most, x.least, x.most)
		}
		if skew := v.Skew(x.own); skew != x.skew {
			t.Errorf("%s: skew %d, want %d", name, skew, x.skew)
		}
	}
}

func TestMedianLeavesItsInputAlone(t *testing.T) {
	others := append(make([]int64, 0, 8), 9, 1)
	Voters{3, others}.median(5)
	if !slices.Equal(others[:3], []int64{9, 1, 0}) {
		t.Fatal(others[:3])
	}
}

func TestAmongSeveral(t *testing.T) {
	const s, h = time.Second, time.Hour
	type step struct {
		passed, own time.Duration   // since the start, by the own clocks
		others      []time.Duration // clocks, nil is not known
		want        time.Duration
	}
	for name, steps := range map[string][]step{
		"two hours ahead from the start":   {{0, 2 * h, []time.Duration{0, 0}, 0}, {s, 2*h + s, []time.Duration{s, s}, s}},
		"jumps ahead":                      {{s, s, []time.Duration{s, s}, s}, {2 * s, 2 * h, []time.Duration{2 * s, 2 * s}, 2 * s}},
		"jumps back":                       {{s, s, []time.Duration{s, s}, s}, {2 * s, -2 * h, []time.Duration{2 * s, 2 * s}, 2 * s}},
		"another one is two hours ahead":   {{s, s, []time.Duration{2 * h, s}, s}, {2 * s, 2 * s, []time.Duration{2*h + s, 2 * s}, 2 * s}},
		"another one is two hours behind":  {{s, s, []time.Duration{-2 * h, s}, s}},
		"the others say that time passed":  {{0, 0, []time.Duration{5 * h, 5 * h}, 5 * h}},
		"alone with a clock that is ahead": {{0, 2 * h, nil, -s}, {s, 2*h + s, nil, 0}, {2 * s, 2*h + 2*s, []time.Duration{2 * s, 2 * s}, 2 * s}},
		"one of two is ahead, nobody knows which": {
			{0, 2 * h, []time.Duration{0}, 0},
			{s, 2*h + s, []time.Duration{s}, s},
			{2 * s, 2*h + 2*s, []time.Duration{2*h + 2*s, 2 * s}, 2*h + 2*s}, // the third says
		},
		"never falls": {{9 * s, 9 * s, []time.Duration{9 * s, 9 * s}, 9 * s}, {10 * s, 0, []time.Duration{0, 0}, 9 * s}},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewCore(epoch-int64(s), 0)
			for i, x := range steps {
				v := Voters{Count: 3}
				for _, o := range x.others {
					v.Others = append(v.Others, epoch+int64(o))
				}
				if got := time.Duration(c.Now(epoch+int64(x.own), x.passed, v) - epoch); got != x.want {
					t.Fatalf("step %d: %s, want %s", i, got, x.want)
				}
			}
		})
	}
}

// A cluster that shrinks to one node goes on with the rule of one.
func TestFromSeveralToOne(t *testing.T) {
	c := NewCore(0, 0)
	c.Now(epoch+int64(2*time.Hour), 0, Voters{3, []int64{epoch, epoch}})
	if got := time.Duration(c.Now(epoch+int64(2*time.Hour), time.Second, Voters{Count: 1}) - epoch); got != 1100*time.Millisecond {
		t.Fatalf("gained %s in one second", got)
	}
	if c.Lag() == 0 {
		t.Fatal("no lag is reported")
	}
}

// With a minority of wrong clocks, which may show anything at any time, and
// with any of the others unheard, log time never falls, never runs ahead of
// the right clocks faster than time passes, and is right whenever all are
// known.
func TestMinorityOfWrongClocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.SampledFrom([]int{3, 5}).Draw(t, "voters")
		wrong := rapid.IntRange(0, (count-1)/2).Draw(t, "wrong")
		ownWrong := wrong > 0 && rapid.Bool().Draw(t, "own is wrong")
		anything := rapid.Int64Range(0, 2*epoch)
		c, last := NewCore(epoch, 0), epoch
		mono := time.Duration(0)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			passed := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "passed"))
			mono += passed
			right := epoch + int64(mono)
			clocks := make([]int64, count) // the first is this node's
			for i := range clocks {
				clocks[i] = right
				if i < wrong && ownWrong || i >= count-wrong && !ownWrong {
					clocks[i] = anything.Draw(t, "clock")
				}
			}
			others := clocks[1:]
			heard := rapid.IntRange(0, len(others)).Draw(t, "heard")
			if rapid.Bool().Draw(t, "from the end") {
				others = others[len(others)-heard:]
			} else {
				others = others[:heard]
			}
			now := c.Now(clocks[0], mono, Voters{count, others})
			if now < last || now > max(last+int64(passed), right) {
				t.Fatalf("from %d to %d, right is %d", last-epoch, now-epoch, right-epoch)
			}
			if len(others) == count-1 && now != right {
				t.Fatalf("off by %s though all clocks are known", time.Duration(now-right))
			}
			last = now
		}
	})
}

func TestOff(t *testing.T) {
	ahead := time.Duration(0)
	c := New(0, func() time.Time { return time.Now().Add(ahead) })
	if c.Skew() != 0 || c.Off() {
		t.Fatal("a single voter is off")
	}
	c.Follow(func() Voters {
		now := time.Now().UnixNano()
		return Voters{3, []int64{now, now}}
	})
	if c.Off() {
		t.Fatalf("off by %s", c.Skew())
	}
	before := c.NowMs()
	ahead = 2 * time.Hour
	if s := c.Skew(); !c.Off() || s < time.Hour {
		t.Fatalf("off by %s only", s)
	}
	if d := time.Duration(c.NowMs()-before) * time.Millisecond; d > time.Hour {
		t.Fatalf("log time advanced by %s", d)
	}
	ahead = -2 * time.Hour
	if s := c.Skew(); !c.Off() || s > -time.Hour {
		t.Fatalf("off by %s only", s)
	}
}
