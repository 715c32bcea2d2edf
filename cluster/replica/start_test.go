package replica

import (
	"errors"
	"testing"

	"github.com/waystation/waystation/storage"
)

// A node may come up with a map that is older than its log: the state has no log of
// its own. A replica that such a map still wants is over; the one that followed it
// is sound, and must be left alone.
func TestAReplicaThatWasFollowed(t *testing.T) {
	at := storage.Position{Index: 9, Term: 6}
	f := Found{
		Recorded: true, Replica: 12, Truncated: at, Last: at, Applied: at.Index, Join: true,
		HardState: storage.HardState{Term: 6, Commit: at.Index}, Conf: SoleVoter(12).Marshal(),
	}
	if _, err := Reconcile(7, f); !errors.Is(err, ErrTombstone) || errors.Is(err, ErrQuarantined) {
		t.Errorf("the one before: %v", err)
	}
	if s, err := Reconcile(12, f); err != nil || s.Fresh || s.Applied != at.Index {
		t.Errorf("the one that is there: %+v, %v", s, err)
	}
}
