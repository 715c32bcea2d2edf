package verify

import "testing"

func TestHolders(t *testing.T) {
	const until = Tick(100)
	hold := func(worker int, token uint64) Hold {
		return Hold{Repo: 7, Worker: worker, Token: token, Expires: until}
	}
	for _, tc := range []struct {
		name  string
		does  func(h *Holders)
		twice int64
	}{
		{"one after the other", func(h *Holders) {
			a, _, _ := h.Begin(hold(1, 5), 10)
			h.End(a)
			h.Begin(hold(2, 6), 11)
		}, 0},
		{"both at once", func(h *Holders) {
			h.Begin(hold(1, 5), 10)
			h.Begin(hold(2, 6), 11)
		}, 1},
		{"under one token", func(h *Holders) {
			h.Begin(hold(1, 5), 10)
			h.Begin(hold(2, 5), 11)
		}, 1},
		{"an older lease comes after a newer one", func(h *Holders) {
			h.Begin(hold(1, 6), 10)
			h.Begin(hold(1, 5), 11)
		}, 1},
		{"another repository", func(h *Holders) {
			h.Begin(hold(1, 5), 10)
			h.Begin(Hold{Repo: 8, Worker: 2, Token: 6, Expires: until}, 11)
		}, 0},
		{"after its end", func(h *Holders) {
			h.Begin(hold(1, 5), 10)
			h.Begin(hold(2, 6), until)
		}, 0},
		{"of a dead one, too early", func(h *Holders) {
			a, _, _ := h.Begin(hold(1, 5), 10)
			if n := h.Die(20, 1); n != 1 {
				t.Errorf("%d held, want 1", n)
			}
			h.End(a) // nobody hears it any more
			if _, after, taken := h.Begin(hold(2, 6), until-1); !taken || after != 79*TickLength {
				t.Errorf("taken over %v, %v after", taken, after)
			}
		}, 1},
		{"of a dead one, in time", func(h *Holders) {
			h.Begin(hold(1, 5), 10)
			h.Die(20, 1)
			h.Begin(hold(1, 5), 11) // it does not know
			if h.Orphans() != 1 {
				t.Errorf("%d orphans, want 1", h.Orphans())
			}
			h.Begin(hold(2, 6), until)
			if h.Orphans() != 0 {
				t.Errorf("%d orphans, want none", h.Orphans())
			}
		}, 0},
		{"done before it died", func(h *Holders) {
			a, _, _ := h.Begin(hold(1, 5), 10)
			h.End(a)
			if n := h.Die(20, 1); n != 0 {
				t.Errorf("%d held, want none", n)
			}
			h.Begin(hold(2, 6), 11)
		}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := NewHolders()
			tc.does(h)
			if h.Twice() != tc.twice {
				t.Errorf("%d times, want %d", h.Twice(), tc.twice)
			}
		})
	}
}
