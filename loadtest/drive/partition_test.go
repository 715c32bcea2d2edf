package drive

import (
	"fmt"
	"slices"
	"testing"

	"github.com/waystation/waystation/client"
)

func TestPartitionsOf(t *testing.T) {
	repos := make([]string, 1000)
	for i := range repos {
		repos[i] = fmt.Sprint("repo-", i)
	}
	c := &client.ClusterInfo{HashSeed: 7, Partitions: make([]client.PartitionInfo, 16)}
	of := partitionsOf(repos, c)
	counts := make([]int, 16)
	for _, p := range of {
		counts[p]++
	}
	if slices.Min(counts) == 0 || slices.Max(counts) > 200 {
		t.Errorf("spread %v", counts)
	}
	// Golden: what the relay does with this seed, and part of its storage format.
	if want := []int{11, 10, 3, 14, 12, 11, 3, 9}; !slices.Equal(of[:8], want) {
		t.Errorf("got %v", of[:8])
	}
	c.HashSeed = 0
	if got := partitionsOf(repos, c); got != nil {
		t.Errorf("without a seed: %v", got)
	}
}
