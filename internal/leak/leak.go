// Package leak ends a test binary with an error when goroutines are left that its
// tests began, where some of them take their time: what memberlist has begun ends
// by itself within a probe interval after its end, which grows to eight times as
// much on a busy machine.
package leak

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines have to end.
const patience = 30 * time.Second

// Main runs the tests, and ends the process. It is all that a TestMain does.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run runs the tests, and returns the exit code.
func Run(m *testing.M) int {
	code := m.Run()
	if code != 0 {
		return code
	}
	if err := ended(time.Now().Add(patience)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// ended looks until none is left; each look takes about half a second.
func ended(until time.Time) error {
	for {
		err := goleak.Find()
		if err == nil || time.Now().After(until) {
			return err
		}
	}
}
