package drive

import (
	"math/bits"

	"github.com/cespare/xxhash/v2"

	"github.com/waystation/waystation/client"
)

// partitionsOf is each repository's partition; nil when the relay does not tell
// how they are found.
func partitionsOf(repos []string, c *client.ClusterInfo) []int {
	if c.HashSeed == 0 || len(c.Partitions) == 0 {
		return nil
	}
	of := make([]int, len(repos))
	for i, repo := range repos {
		d := xxhash.NewWithSeed(c.HashSeed)
		_, _ = d.WriteString(repo) // never fails
		at, _ := bits.Mul64(d.Sum64(), uint64(len(c.Partitions)))
		of[i] = int(at)
	}
	return of
}
