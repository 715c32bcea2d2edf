package intake

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The budget is never exceeded, its sum is right, and it refuses only what the
// rule refuses: more than a quarter of what is free for one repository, beside
// one packet.
func TestBudgetAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(10, 1000).Draw(t, "limit")
		b := NewBudget(limit)
		holdings := make([]Holding, 5)
		held := make([][]int, 5)
		who := rapid.IntRange(0, 4)
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				h, n := who.Draw(t, "who"), rapid.IntRange(1, 300).Draw(t, "n")
				others := b.Used() - holdings[h].Bytes()
				free := limit - others
				want := holdings[h].Bytes()+n <= free &&
					(holdings[h].Bytes() == 0 || holdings[h].Bytes()+n <= free/4)
				if got := b.Reserve(&holdings[h], n); got != want {
					t.Fatalf("%d more for %d of %d with %d elsewhere: %v", n, holdings[h].Bytes(), limit, others, got)
				} else if got {
					held[h] = append(held[h], n)
				}
			},
			"release": func(t *rapid.T) {
				h := who.Draw(t, "who")
				if len(held[h]) > 0 {
					b.Release(&holdings[h], held[h][0])
					held[h] = held[h][1:]
				}
			},
			"move": func(t *rapid.T) {
				from, to := who.Draw(t, "from"), who.Draw(t, "to")
				if len(held[from]) > 0 {
					n := held[from][0]
					held[from] = held[from][1:]
					held[to] = append(held[to], n)
					b.Move(&holdings[from], &holdings[to], n)
				}
			},
			"": func(t *rapid.T) {
				sum := 0
				for i := range holdings {
					mine := 0
					for _, n := range held[i] {
						mine += n
					}
					if mine != holdings[i].Bytes() {
						t.Fatalf("holding %d has %d, should have %d", i, holdings[i].Bytes(), mine)
					}
					sum += mine
				}
				if b.Used() != sum || sum > limit {
					t.Fatalf("used %d, holdings %d, limit %d", b.Used(), sum, limit)
				}
			},
		})
	})
}

// The delay follows from what is missing and how fast it drains, within bounds.
func TestRetryAfter(t *testing.T) {
	const mib = 1 << 20
	b := NewBudget(100 * mib)
	var hot, quiet Holding
	if !b.Reserve(&hot, 20*mib) || !b.Reserve(&quiet, 1*mib) {
		t.Fatal("no room")
	}
	for _, c := range []struct {
		name string
		h    *Holding
		n    int
		rate float64
		want time.Duration
	}{
		{"never measured", &hot, 20 * mib, 0, 50 * time.Millisecond},
		{"15 MiB over its quarter", &hot, 19*mib + 3*mib/4, 10 * mib, 1500 * time.Millisecond},
		{"twice as fast", &hot, 19*mib + 3*mib/4, 20 * mib, 750 * time.Millisecond},
		{"there is room by now", &quiet, mib, 10 * mib, minRetry},
		{"slower than anybody waits", &hot, 50 * mib, 100, maxRetry},
	} {
		if got := b.RetryAfter(c.h, c.n, c.rate); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := b.RetryDrained(&hot, 20*mib); got != 500*time.Millisecond {
		t.Errorf("half of 20 MiB at 20 MiB/s: %v", got)
	}
}
