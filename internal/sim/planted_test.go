//go:build planted

package sim

import (
	"fmt"
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

// TestPlanted prints what was found, when and how.
func TestPlanted(t *testing.T) {
	fmt.Printf("%-16s %6s %7s %s\n", "bug", "seed", "event", "found as")
	for _, b := range bugs {
		invariant.Plant(b)
		h := find(t)
		invariant.Plant("")
		if h.err == nil {
			t.Errorf("%s was not found in %d seeds", b, plantedSeeds)
			continue
		}
		fmt.Printf("%-16s %6d %7d %s\n", b, h.set.Seed, h.steps, strings.Split(h.err.Error(), "\n")[0])
	}
}

func find(t *testing.T) (h history) {
	for seed := uint64(1); seed <= plantedSeeds && h.err == nil; seed++ {
		h = run(t, newSettings(seed), *eventFlag)
	}
	return h
}
