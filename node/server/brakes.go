package server

import (
	"context"
	"time"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/internal/cadence"
	"github.com/waystation/waystation/storage"
)

const (
	// brakeEvery is how often it is looked at what packets are refused for.
	brakeEvery = 200 * time.Millisecond
	// diskRetry is when a packet may come again that the disk had no room for.
	diskRetry = 5 * time.Second
	// brakePeriod is divided into a part in which packets are refused and one in
	// which they are taken. At most brakeMost of it is refused: publishing slows
	// down, and never stops, for a replica that catches up.
	brakePeriod = 200 * time.Millisecond
	brakeMost   = 0.875
)

// brakes hold partitions' packets back: all of them while the disk of a voter is
// under its reserve, some of them while a replica must catch up with what comes.
type brakes struct {
	partitions []*actors.Partition
	// voters are the nodes on which a group's voters lie.
	voters func(g storage.GroupID) []identity.NodeID
	// low says whether a node is under its disk's reserve.
	low func(n identity.NodeID) bool
	// strain is how near the log kept for a snapshot is to its limit, 0 to 1.
	strain func(g storage.GroupID) float64
}

// watch looks until ctx ends.
func (b *brakes) watch(ctx context.Context) {
	tick := time.NewTimer(cadence.Until(time.Now(), brakeEvery))
	defer tick.Stop()
	for {
		b.look()
		tick.Reset(cadence.Until(time.Now(), brakeEvery))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (b *brakes) look() {
	for _, p := range b.partitions {
		p.Hold(b.why(p.Group()))
	}
}

// why is what a partition's packets are refused for, nil for nothing.
func (b *brakes) why(g storage.GroupID) func() *actors.Refusal {
	for _, n := range b.voters(g) {
		if b.low(n) {
			r := actors.RefusalDisk(diskRetry)
			return func() *actors.Refusal { return r }
		}
	}
	strain := b.strain(g)
	if strain <= 0 {
		return nil
	}
	return func() *actors.Refusal {
		if wait := braked(strain, time.Now()); wait > 0 {
			return actors.RefusalSnapshot(wait)
		}
		return nil
	}
}

// braked is how long packets are refused from now on, 0 if they are taken: in the
// first part of each period, which grows with the strain.
func braked(strain float64, now time.Time) time.Duration {
	refused := time.Duration(min(strain, brakeMost) * float64(brakePeriod))
	into := time.Duration(now.UnixNano() % int64(brakePeriod))
	return max(refused-into, 0)
}
