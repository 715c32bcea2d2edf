package discovery

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(childHome) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}
