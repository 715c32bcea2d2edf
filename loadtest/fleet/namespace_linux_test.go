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
	network, _, err := NewNetwork(dir)
	if err != nil {
		return err
	}
	f, err := Start(ctx, Config{Dir: dir, Cluster: "good", Nodes: 3, Replication: 3, Network: network})
	if err != nil {
		return err
	}
	defer f.Stop()
	nodes := f.list()
	reaches := func(from, to int) bool {
		got, err := get(nodes[from].spec.Addresses.HTTP, "/reach?to="+nodes[to].spec.Addresses.Peer)
		if err != nil {
			panic(err) // this process must always reach the nodes
		}
		return got == "reached"
	}
	look := func(when string, want bool) error {
		for _, other := range []int{1, 2} {
			if reaches(0, other) != want || reaches(other, 0) != want {
				return fmt.Errorf("%s: node-1 and node-%d: reached %v, want %v", when, other+1, !want, want)
			}
		}
		if !reaches(1, 2) || !reaches(2, 1) {
			return fmt.Errorf("%s: the others are cut off each other", when)
		}
		return nil
	}
	if err := look("before", true); err != nil {
		return err
	}
	// A conversation needs both directions: that each is cut alone is seen below.
	for _, way := range []Way{BothWays, Inbound, Outbound} {
		if err := network.Cut(0, []int{1, 2}, way); err != nil {
			return err
		}
		if err := look("cut, "+way.String(), false); err != nil {
			return err
		}
		if err := oneWay(nodes, way); err != nil {
			return err
		}
		if err := network.Heal(0, []int{1, 2}); err != nil {
			return err
		}
		if err := look("healed, "+way.String(), true); err != nil {
			return err
		}
	}
	// A restart stays where it is.
	if _, err := nodes[0].KillAndRestart(ctx, 0); err != nil {
		return err
	}
	return look("restarted", true)
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
