package logclock

import (
	"math"
	"slices"
	"time"
)

// Limit is how far a node's clock may be off the median before the node should
// not lead.
const Limit = time.Second

// Voters is what is known of the voters' clocks at one moment. The zero value
// is a single voter, this node.
type Voters struct {
	// Count is how many voters there are, this node among them.
	Count int
	// Others are the clocks of the other voters, Unix nanoseconds, as far as they
	// are known, in any order. They must not be derived from this node's wall
	// clock: if that jumps, they must not jump with it.
	Others []int64
}

func (v Voters) alone() bool { return v.Count <= 1 && len(v.Others) == 0 }

// median returns what the median of all voters' clocks is at least and at
// most: the same if enough of them are known and they are odd in number. A
// clock that is not known may show anything.
func (v Voters) median(own int64) (least, most int64) {
	known := slices.Sorted(slices.Values(append(v.Others[:len(v.Others):len(v.Others)], own)))
	n := max(v.Count, len(known))
	missing := n - len(known)
	least, most = math.MinInt64, math.MaxInt64
	if i := (n-1)/2 - missing; i >= 0 {
		least = known[i]
	}
	if i := n / 2; i < len(known) {
		most = known[i]
	}
	return least, most
}

// Skew returns by how much a wall clock is ahead of the median, negative if it
// is behind; zero if it may be the median, as far as the known clocks tell.
func (v Voters) Skew(own int64) time.Duration {
	if v.alone() {
		return 0
	}
	least, most := v.median(own)
	return time.Duration(own - min(max(own, least), most))
}
