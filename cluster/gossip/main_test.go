package gossip

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// memberlist's timers end within a probe interval after its end, so the look for
// leaks is repeated until there are none.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := noLeaks(time.Now().Add(30 * time.Second)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func noLeaks(until time.Time) error {
	for {
		err := goleak.Find()
		if err == nil || time.Now().After(until) {
			return err
		}
	}
}
