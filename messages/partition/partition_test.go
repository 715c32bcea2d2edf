package partition

import (
	"fmt"
	"testing"
)

// Where a repository lies is part of the storage format, and clients of any age
// know it: it may never change. The nodes' side is held to the same values in
// package actors.
func TestWhereRepositoriesLieIsFixed(t *testing.T) {
	// With the seeds 0 and 42.
	for repo, want := range map[string]string{"acme/api": "2 6", "r": "4 13", "日本/コード": "8 13"} {
		var of, ofString string
		for _, seed := range []uint64{0, 42} {
			of += fmt.Sprint(At(Hash(seed, []byte(repo)), 16), " ")
			ofString += fmt.Sprint(At(HashString(seed, repo), 16), " ")
		}
		if of != want+" " || ofString != of {
			t.Errorf("%s: partitions %s and %s, want %s", repo, of, ofString, want)
		}
	}
	if h := Hash(0, nil); h != 0xef46db3751d8e999 || HashString(0, "") != h {
		t.Errorf("the empty name has the hash %x", h)
	}
	for hash, want := range map[uint64]int{0: 0, 1<<62 - 1: 0, 1 << 62: 1, ^uint64(0): 3} {
		if got := At(hash, 4); got != want {
			t.Errorf("hash %x lies in range %d of 4, want %d", hash, got, want)
		}
	}
}
