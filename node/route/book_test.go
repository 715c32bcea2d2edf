package route

import (
	"testing"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
)

// TestWhatIsBeingSettledIsNotTakenAgain: a new leader hands a lease's packets out
// again, while the worker's settlement of them is on its way to it.
func TestWhatIsBeingSettledIsNotTakenAgain(t *testing.T) {
	var b book
	b.init()
	packet := func(seq, token uint64) *actors.Delivery {
		return &actors.Delivery{Repo: "r", Seq: repository.Seq(seq), Token: repository.Token(token), LeaseMs: 60_000}
	}
	key := func(seq, token uint64) deliveryKey {
		return deliveryKey{leaseKey{"r", repository.Token(token)}, repository.Seq(seq)}
	}
	take := func(seq, token uint64, want bool, held int) {
		t.Helper()
		if got := b.take(packet(seq, token)); got != want || b.held != held {
			t.Errorf("packet %d under token %d: taken %v, %d held; want %v, %d", seq, token, got, b.held, want, held)
		}
	}
	for seq := range uint64(3) {
		take(seq+1, 7, true, int(seq)+1)
	}
	take(1, 7, false, 3) // the worker has it
	b.settle(key(1, 7))
	take(1, 7, false, 2) // on its way, the first time
	b.settle(key(1, 7))
	b.unsettled(key(1, 7))
	take(1, 7, false, 2) // one of two answers is there
	b.unsettled(key(1, 7))
	take(1, 7, false, 3) // nobody decided it: the worker has it still, and was told to settle it again
	b.settle(key(1, 7))
	b.settled(key(1, 7), false)
	take(1, 7, false, 2) // done
	b.settle(key(2, 7))
	b.settled(key(2, 7), true)
	take(3, 7, false, 0) // it failed, and ended the lease
	take(2, 8, true, 1)  // another lease
}
