package discovery

import (
	"os"
	"testing"

	"github.com/waystation/waystation/internal/leak"
)

func TestMain(m *testing.M) {
	if os.Getenv(childHome) != "" {
		os.Exit(child())
	}
	leak.Main(m)
}
