package lease

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/waystation/waystation/actors/repository"
)

func TestWindowOrder(t *testing.T) {
	w := NewWindow(10)
	w.Add("n1", repository.RankNormal, 0, 100)
	w.Add("l1", repository.RankLow, 0, 100)
	w.Add("n2", repository.RankNormal, 0, 100)
	w.Add("n1", repository.RankNormal, 0, 100) // known
	w.Add("h1", repository.RankNormal, 0, 100)
	w.Add("h1", repository.RankHigh, 0, 100) // moves up
	var got []string
	for r := range repository.Rank(repository.Ranks) {
		for n := w.Ready(r); n > 0; n-- {
			l, ok := w.Take(r)
			if !ok {
				t.Fatalf("rank %v: %d ready, and none to take", r, n)
			}
			got = append(got, l.Repo)
		}
		if l, ok := w.Take(r); ok {
			t.Fatalf("rank %v: %s beyond the count", r, l.Repo)
		}
	}
	if want := "[h1 n1 n2 l1]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestWindowEventWhileTaken(t *testing.T) {
	w := NewWindow(10)
	w.Add("r", repository.RankNormal, 0, 1)
	l, _ := w.Take(repository.RankNormal)
	if w.Add("r", repository.RankHigh, 0, 1) {
		t.Error("a taken lane counts as new")
	}
	if !w.Drop(l) {
		t.Error("the event was lost")
	}
	if l, ok := w.Take(repository.RankHigh); !ok || l.Repo != "r" {
		t.Error("the lane did not come back at its new priority")
	} else if w.Drop(l) {
		t.Error("the lane came back twice")
	}
	if l, ok := w.Claim("r", repository.RankNormal); !ok {
		t.Error("a lane that is gone can't be claimed")
	} else if _, twice := w.Claim("r", repository.RankNormal); twice {
		t.Error("a taken lane was claimed")
	} else if !w.Put(l) || w.Ready(repository.RankNormal) != 1 {
		t.Error("a claimed lane was not put back")
	}
}

func TestWindowPages(t *testing.T) {
	w := NewWindow(4)
	if !w.WantsPage(0) {
		t.Fatal("a new window wants no page")
	}
	w.BeginPage()
	if w.WantsPage(0) {
		t.Error("wants a page while one is read")
	}
	for i := range 4 {
		w.Add(fmt.Sprint(i), repository.RankNormal, 0, 0)
	}
	w.EndPage(true, 50)
	if w.WantsPage(0) {
		t.Error("a full window wants a page")
	}
	if !w.WantsPage(50) {
		t.Error("a lane turned ready, and no page is wanted")
	}
	w.BeginPage()
	w.EndPage(true, 0)
	for range 4 {
		l, _ := w.Take(repository.RankNormal)
		w.Drop(l)
	}
	if !w.WantsPage(0) {
		t.Error("an empty window that knows of more wants no page")
	}
	w.BeginPage()
	w.EndPage(false, 0)
	if w.WantsPage(1 << 40) {
		t.Error("wants a page of an index that it knows to the end")
	}
}

// TestWindowLosesNoLane runs a random index against a window: whatever is
// runnable can be taken in the end.
func TestWindowLosesNoLane(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := NewWindow(rapid.IntRange(1, 2).Draw(t, "limit"))
		index := map[string]laneAt{} // the replicated truth
		leased := map[string]bool{}
		var taken []decided
		now := int64(0)
		page := func() {
			w.BeginPage()
			more, next := false, int64(0)
			for r := range repository.Rank(repository.Ranks) {
				for _, name := range names {
					at, ok := index[name]
					switch {
					case !ok || at.rank != r:
					case at.readyMs > now:
						if next == 0 || at.readyMs < next {
							next = at.readyMs
						}
					default:
						w.Add(name, r, 0, now)
					}
				}
			}
			w.EndPage(more, next)
		}
		event := func(name string, at laneAt) {
			index[name] = at
			w.Add(name, at.rank, at.readyMs, now)
		}
		// A taken lane is decided by the state of one moment, and finished later: what
		// happens between must not be lost.
		decide := func(i int) {
			x := &taken[i]
			at, ok := index[x.Repo]
			x.done = true
			if x.waitMs = at.readyMs; ok && at.readyMs <= now { // the grant
				x.waitMs = 0
				delete(index, x.Repo)
				leased[x.Repo] = true
			}
		}
		finish := func(i int) {
			x := taken[i]
			taken = append(taken[:i], taken[i+1:]...)
			switch {
			case !x.done:
				w.Put(x.Lane)
			case x.waitMs > now:
				w.Wait(x.Lane, x.waitMs)
			case x.waitMs > 0:
				w.Put(x.Lane)
			default:
				w.Drop(x.Lane)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"event": func(t *rapid.T) {
				name := rapid.SampledFrom(names).Draw(t, "lane")
				if !leased[name] {
					event(name, laneAt{repository.Rank(rapid.IntRange(0, 2).Draw(t, "rank")), now + rapid.Int64Range(-5, 5).Draw(t, "in")})
				}
			},
			"settle": func(t *rapid.T) {
				name := rapid.SampledFrom(names).Draw(t, "lane")
				if leased[name] {
					delete(leased, name)
					event(name, laneAt{repository.Rank(rapid.IntRange(0, 2).Draw(t, "rank")), now})
				}
			},
			"take": func(t *rapid.T) {
				if l, ok := w.Take(repository.Rank(rapid.IntRange(0, 2).Draw(t, "rank"))); ok {
					taken = append(taken, decided{Lane: l})
				}
			},
			"decide": func(t *rapid.T) {
				if len(taken) > 0 {
					decide(rapid.IntRange(0, len(taken)-1).Draw(t, "which"))
				}
			},
			"finish": func(t *rapid.T) {
				if len(taken) > 0 {
					finish(rapid.IntRange(0, len(taken)-1).Draw(t, "which"))
				}
			},
			"wait": func(t *rapid.T) { now += rapid.Int64Range(0, 5).Draw(t, "ms") },
			"page": func(*rapid.T) {
				if w.WantsPage(now) {
					page()
				}
			},
			"": func(t *rapid.T) {
				for r := range repository.Rank(repository.Ranks) {
					if w.Ready(r) > w.limit+len(names) || w.Ready(r) < 0 {
						t.Fatalf("%d ready lanes of rank %v", w.Ready(r), r)
					}
				}
			},
		})
		for len(taken) > 0 {
			finish(0)
		}
		for range 20 * len(names) {
			now += 10
			if w.WantsPage(now) {
				page()
			}
			for r := range repository.Rank(repository.Ranks) {
				for l, ok := w.Take(r); ok; l, ok = w.Take(r) {
					taken = append(taken, decided{Lane: l})
					decide(0)
					finish(0)
				}
			}
		}
		if len(index) > 0 {
			t.Fatalf("runnable and never offered: %v", index)
		}
	})
}

var names = []string{"a", "b", "c"}

type decided struct {
	*Lane
	done   bool
	waitMs int64
}

type laneAt struct {
	rank    repository.Rank
	readyMs int64
}

// What the window holds of a lower priority does not keep it from reading on for
// a higher one, of which there is more.
func TestWindowReadsOnForAHigherPriority(t *testing.T) {
	w := NewWindow(8)
	w.BeginPage()
	for i := range 8 {
		w.Add(fmt.Sprint("high", i), repository.RankHigh, 0, 0)
	}
	w.EndPage(true, 0)
	for i := range 8 {
		w.Add(fmt.Sprint("low", i), repository.RankLow, 0, 0)
	}
	for range 6 {
		if w.WantsPage(0) {
			t.Fatalf("wants a page with %d of the higher priority", w.Ready(repository.RankHigh))
		}
		l, _ := w.Take(repository.RankHigh)
		w.Drop(l)
	}
	for range 2 {
		l, _ := w.Take(repository.RankHigh)
		w.Drop(l)
	}
	if !w.WantsPage(0) {
		t.Error("wants no page with none of the higher priority left, and more of it behind")
	}
	w.BeginPage()
	w.EndPage(false, 0)
	if w.WantsPage(0) {
		t.Error("wants a page when there is no more")
	}
	w.Add("low9", repository.RankLow, 0, 0) // no room for it
	if w.WantsPage(0) {
		t.Error("wants a page for a lower priority of which it has enough")
	}
}
