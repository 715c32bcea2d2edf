package discovery

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
	if os.Getenv(childHome) != "" {
		os.Exit(child())
	}
	code := m.Run()
	until := time.Now().Add(30 * time.Second)
	err := goleak.Find()
	for err != nil && time.Now().Before(until) {
		err = goleak.Find()
	}
	if code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
