package member

import (
	"testing"

	"github.com/waystation/waystation/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }
