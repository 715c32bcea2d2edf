package member

import (
	"testing"
	"time"
)

func TestWhatIsNews(t *testing.T) {
	var n news
	begin := time.Unix(1000, 0)
	look := func(ms int, p picture, want bool) {
		t.Helper()
		if got := n.look(p, begin.Add(time.Duration(ms)*time.Millisecond)); got != want {
			t.Errorf("after %d ms, %+v: %v", ms, p, got)
		}
	}
	one, two := picture{led: 1}, picture{led: 2}
	look(0, picture{}, false) // nothing yet
	look(100, one, false)     // it may go on
	look(600, one, false)
	look(1200, one, true)
	look(1300, one, false) // known
	look(5000, two, false)
	look(5500, one, false) // back where it was: nothing happened
	look(9000, one, false)
	look(9100, two, false)
	look(10200, two, true)
	for ms := 20000; ms < 30000; ms += 500 { // it never rests
		look(ms, picture{led: ms}, false)
	}
	look(30000, picture{led: 7}, true)
}
