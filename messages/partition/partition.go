// Package partition says which partition a repository lies in. Nodes and clients
// must agree on it, so both ask here; it is part of the storage format.
package partition

import (
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// Hash is xxHash64 of a repository's id with the cluster's seed.
func Hash(seed uint64, repo []byte) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(seed)
	_, _ = d.Write(repo) // never fails
	return d.Sum64()
}

// HashString is Hash for a string.
func HashString(seed uint64, repo string) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(seed)
	_, _ = d.WriteString(repo) // never fails
	return d.Sum64()
}

// At is the range of n equal ones that a hash falls into: from 0, below n. n must
// be positive.
func At(hash uint64, n int) int {
	high, _ := bits.Mul64(hash, uint64(n))
	return int(high)
}
