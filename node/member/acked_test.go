package member

import (
	"testing"
	"time"
)

func TestWhatEveryVoterShouldHave(t *testing.T) {
	var a acked
	at := func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }
	want := func(term, commit, index uint64) {
		t.Helper()
		if got := a.index(1, term, commit); got != index {
			t.Errorf("in term %d, committed %d: %d, want %d", term, commit, got, index)
		}
	}
	want(5, 10, 10) // nothing is known yet
	a.look(1, 5, 100, at(0))
	want(5, 130, 100) // what it opened with
	a.look(1, 5, 200, at(200))
	a.look(1, 5, 300, at(600))
	want(5, 310, 100) // 300 is too new
	a.look(1, 5, 400, at(1000))
	want(5, 400, 100)
	a.look(1, 5, 500, at(1100))
	want(5, 510, 300)
	// Once nothing is committed any more, it is what is committed.
	a.look(1, 5, 500, at(1700))
	a.look(1, 5, 500, at(2300))
	want(5, 500, 500)
	a.look(1, 6, 700, at(2400))
	want(6, 700, 700)
	want(5, 500, 500)
	want(7, 800, 800)
	if got := a.index(2, 6, 42); got != 42 {
		t.Errorf("of another group: %d", got)
	}
}
