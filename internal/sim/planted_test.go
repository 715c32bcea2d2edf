//go:build planted

package sim

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waystation/waystation/internal/invariant"
)

// bugs are rules broken on purpose; the simulator must find each.
var bugs = []invariant.Bug{
	invariant.CommitBehind, invariant.StaleTail, invariant.Unavailable, invariant.SnapshotOrder, invariant.Reset,
	invariant.DedupOnLeader, invariant.DedupApart, invariant.LeasesLost, invariant.AckEarly,
}

// plantedSeeds is how many seeds a bug may survive.
const plantedSeeds = 1000

var (
	keepFlag = flag.Int("keep", 0, "write the scripts that find the planted bugs, after so many tries each to make them shorter")
	bugFlag  = flag.String("bug", "", "this one alone")
)

// TestPlanted prints what was found, when and how: from the first seed on, and by the
// script in testdata, which is one event after the other of what a seed once did, and
// which is as good as its age: "stale" is one that another order of events has made
// useless. It is written anew with -keep.
func TestPlanted(t *testing.T) {
	fmt.Printf("%-16s %6s %7s %9s %s\n", "bug", "seed", "event", "script", "found as")
	for _, b := range bugs {
		if *bugFlag != "" && *bugFlag != string(b) {
			continue
		}
		invariant.Plant(b)
		h := find(t)
		if h.err != nil && *keepFlag > 0 {
			keep(t, b, shrink(t, h, *keepFlag))
		}
		by := byScript(t, b)
		invariant.Plant("")
		if h.err == nil {
			t.Errorf("%s was not found in %d seeds", b, plantedSeeds)
			continue
		}
		fmt.Printf("%-16s %6d %7d %9s %s\n", b, h.set.Seed, h.steps, by, strings.Split(h.err.Error(), "\n")[0])
	}
}

func find(t *testing.T) (h history) {
	for seed := uint64(1); seed <= plantedSeeds && h.err == nil; seed++ {
		h = run(t, newSettings(seed), *eventFlag)
	}
	return h
}

func scriptOf(b invariant.Bug) string {
	return filepath.Join("testdata", "planted-"+string(b)+".script")
}

func keep(t *testing.T, b invariant.Bug, h history) {
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(scriptOf(b), []byte(h.text()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// byScript says how many events the script of a bug needs to find it.
func byScript(t *testing.T, b invariant.Bug) string {
	text, err := os.ReadFile(scriptOf(b))
	if err != nil {
		return "none"
	}
	h, err := parseScript(string(text))
	if err != nil {
		t.Fatal(err)
	}
	n := len(h.ops)
	if h = replay(t, h.set, h.ops); h.err == nil {
		return "stale"
	}
	return fmt.Sprintf("%d ops", n)
}
