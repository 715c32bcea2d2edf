package lease

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestCredit(t *testing.T) {
	var c Credit
	if c.Reserve(1) != 0 {
		t.Error("the zero value lets something through")
	}
	c.SetLimit(10)
	if got := c.Reserve(4) + c.Reserve(20); got != 10 || c.Free() != 0 {
		t.Errorf("reserved %d, free %d", got, c.Free())
	}
	c.SetLimit(3)
	c.Release(5)
	if c.Free() != 0 || c.Held() != 5 {
		t.Errorf("with a lower limit: free %d, held %d", c.Free(), c.Held())
	}
	c.Lose(4)
	if c.Free() != 0 {
		t.Error("what was lost is free before the worker said something")
	}
	c.Alive()
	c.Alive()
	if c.Free() != 2 || c.Held() != 1 {
		t.Errorf("after a sign of life: free %d, held %d", c.Free(), c.Held())
	}
	c.Hold(5)
	if c.Free() != 0 || c.Held() != 6 {
		t.Errorf("beyond the limit: free %d, held %d", c.Free(), c.Held())
	}
}

// What a worker says with a failure is in the step that reports it; a dead letter
// has no delay.
func TestStepSaysWhy(t *testing.T) {
	for o, want := range map[Outcome]uint64{Retry: 700, Dead: 0} {
		var b Batch[int]
		b.Reset(granted(2))
		b.Hand(1)
		b.Settle(10, o, Why{Text: []byte("busy"), AfterMs: 700}, nil, 1)
		if s, ok := b.Next(); !ok || string(s.Error) != "busy" || s.AfterMs != want {
			t.Errorf("outcome %d: %+v, want a delay of %d", o, s, want)
		}
	}
}

func TestPlan(t *testing.T) {
	for _, tc := range []struct {
		name  string
		ready []int
		want  int
		plans string
	}{
		{"shares", []int{5, 5, 5}, 3, "[{0 1} {1 1} {2 1}] [{1 1} {2 1} {0 1}]"},
		{"only who has", []int{0, 9, 0, 9}, 4, "[{1 2} {3 2}] [{1 2} {3 2}]"},
		{"what some can't fill", []int{1, 9}, 6, "[{0 1} {1 5}] [{1 5} {0 1}]"},
		{"fewer than partitions", []int{9, 9, 9}, 1, "[{0 1}] [{1 1}]"},
		{"nothing there", []int{0, 0}, 5, "[] []"},
		{"nothing wanted", []int{3}, 0, "[] []"},
		{"no partitions", nil, 3, "[] []"},
	} {
		if got := fmt.Sprint(Plan(tc.ready, tc.want, 0, nil), " ", Plan(tc.ready, tc.want, 1, nil)); got != tc.plans {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.plans)
		}
	}
}

// TestDeadlines compares with the obvious: nothing comes early, nothing is
// forgotten, and Next is never late.
func TestDeadlines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q Deadlines[int]
		all := make([]*Deadline[int], 6)
		want := map[int]time.Duration{}
		for i := range all {
			all[i] = &Deadline[int]{Value: i}
		}
		now := time.Duration(0)
		which := func(t *rapid.T) *Deadline[int] { return rapid.SampledFrom(all).Draw(t, "which") }
		due := func(t *rapid.T) {
			for {
				d, ok := q.Due(now)
				if !ok {
					break
				}
				if at, known := want[d.Value]; !known || at > now {
					t.Fatalf("%d is due at %v: known %v, wanted at %v", d.Value, now, known, at)
				}
				delete(want, d.Value)
			}
			next, ok := q.Next()
			for v, at := range want {
				if at <= now || !ok || next > at {
					t.Fatalf("%d was wanted at %v; now %v, next look at %v (%v)", v, at, now, next, ok)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				d := which(t)
				want[d.Value] = now + time.Duration(rapid.IntRange(1, 20).Draw(t, "in"))
				q.Set(d, want[d.Value])
			},
			"remove": func(t *rapid.T) {
				d := which(t)
				delete(want, d.Value)
				q.Remove(d)
			},
			"wait": func(t *rapid.T) {
				now += time.Duration(rapid.IntRange(0, 10).Draw(t, "for"))
				due(t)
			},
			"": func(t *rapid.T) {
				if q.Len() != len(want) {
					t.Fatalf("%d deadlines, want %d", q.Len(), len(want))
				}
			},
		})
	})
}
