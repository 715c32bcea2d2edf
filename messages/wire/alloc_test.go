package wire_test

import (
	"testing"

	"github.com/waystation/waystation/messages/wire"
)

// TestHotPathDoesNotAllocate: a frame's views, results and deliveries cost no
// allocation once their slices have grown.
func TestHotPathDoesNotAllocate(t *testing.T) {
	frame, limits := benchFrame(), wire.DefaultLimits()
	packets := make([]wire.Packet, 0, benchPackets)
	out := make([]byte, 0, 4*len(frame))
	visit := func(uint64, *wire.ResultView) bool { return true }
	allocs := testing.AllocsPerRun(100, func() {
		packets, _ = limits.WalkFrame(frame, packets[:0])
		out = out[:0]
		for i := range packets {
			p := &packets[i]
			if p.Validate(&limits) != nil {
				t.Error("not valid")
			}
			out = wire.AppendResult(out, uint64(i), &wire.ResultView{Repo: p.Repo, ID: p.ID, Sequence: 9})
		}
		if wire.WalkResults(out, visit) != nil {
			t.Error("not walked")
		}
		for i := range packets {
			out = wire.AppendDelivery(out, &wire.DeliveryView{Packet: packets[i].Raw, AddCRC: true, AcceptedMs: 1500})
		}
	})
	// WalkResults has one view that its visitor may see: one for the whole response.
	if allocs > 1 {
		t.Errorf("%v allocations for %d packets", allocs, len(packets))
	}
}
