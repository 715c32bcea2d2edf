package copies

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/waystation/waystation/cluster/identity"
)

// A leadership that moves while a group is compared is followed; one that is gone
// for good is an error, after some tries.
func TestFollowTheLeader(t *testing.T) {
	elsewhere := errors.New("the partition has no leader on this node")
	a, b := identity.NodeID{1}, identity.NodeID{2}
	for name, x := range map[string]struct {
		leads identity.NodeID
		lost  error
		tries int
		want  error
	}{
		"it leads":        {leads: a, tries: 1},
		"another one":     {leads: b, tries: 2},
		"nobody":          {tries: followTries, want: elsewhere},
		"nobody is heard": {lost: context.DeadlineExceeded, tries: 1, want: context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				err := follow(t.Context(), a, func(n identity.NodeID) error {
					if tries++; n == x.leads {
						return nil
					}
					return elsewhere
				}, func() (identity.NodeID, error) { return b, x.lost })
				if tries != x.tries || !errors.Is(err, x.want) {
					t.Errorf("%d tries, %v", tries, err)
				}
			})
		})
	}
}
