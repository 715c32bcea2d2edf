package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestNamespaces runs cutTest in a network of its own. Where there are no rights
// to have one, that is what it must say.
func TestNamespaces(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out strings.Builder
	code, err := Inside(t.Context(), []string{"cut-test"}, &out, &out)
	if errors.Is(err, ErrNoNamespace) {
		t.Logf("not here: %v", err)
		return
	}
	if code != 0 || err != nil {
		t.Fatalf("exit %d, %v\n%s", code, err, out.String())
	}
}

// cutTest cuts nodes off each other in each way, and looks who reaches whom.
func cutTest() int {
	if err := cutAndLook(context.Background()); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func cutAndLook(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "cut")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	network, _, err := NewNetwork(dir, Auto)
	if err != nil {
		return err
	}
	return cutOff(ctx, dir, network, oneWay)
}

// oneWay looks at the neighbours' entries: which direction goes nowhere.
func oneWay(nodes []*Node, way Way) error {
	for _, d := range []struct {
		from, to int
		cut      bool
	}{{0, 1, way != Inbound}, {1, 0, way != Outbound}} {
		got, err := get(nodes[d.from].spec.Addresses.HTTP, "/neighbour?of="+hostOf(d.to))
		if err != nil {
			return err
		}
		if strings.Contains(got, nobody) != d.cut {
			return fmt.Errorf("%v: node-%d sends to node-%d at %q", way, d.from+1, d.to+1, got)
		}
	}
	return nil
}
