package gossip

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. It is called from memberlist's goroutines,
// with its locks held: nothing here waits or calls back.
type delegate struct {
	record    atomic.Pointer[[]byte] // this node's encoded Meta
	members   *members
	metrics   *metrics
	lost      *lost
	conflicts chan pair
}

// conflictQueue bounds the conflicts that wait to be looked into. One that is
// dropped comes again as long as it lasts.
const conflictQueue = 16

// pair is a name at two addresses.
type pair struct{ known, other Member }

var (
	_ memberlist.Delegate         = (*delegate)(nil)
	_ memberlist.EventDelegate    = (*delegate)(nil)
	_ memberlist.ConflictDelegate = (*delegate)(nil)
	_ memberlist.AliveDelegate    = (*delegate)(nil)
)

func member(n *memberlist.Node) (Member, error) {
	m, err := DecodeMeta(n.Meta)
	if err != nil {
		return Member{}, err
	}
	if m.Node.String() != n.Name {
		return Member{}, fmt.Errorf("%w: node %s under the name %q", ErrMeta, m.Node, n.Name)
	}
	addr, ok := netip.AddrFromSlice(n.Addr)
	if !ok {
		return Member{}, fmt.Errorf("%w: address of %d bytes", ErrMeta, len(n.Addr))
	}
	return Member{Address: netip.AddrPortFrom(addr.Unmap(), n.Port), Meta: m}, nil
}

// NotifyAlive refuses members whose record cannot be read.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	m, err := member(n)
	if err == nil && !d.members.room(m.Node) {
		err = fmt.Errorf("more than %d members", maxMembers)
	}
	if err != nil {
		d.metrics.refuse("member")
	}
	return err
}

// NotifyJoin notes a member that came.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.NotifyUpdate(n) }

// NotifyUpdate notes what a member tells of itself.
func (d *delegate) NotifyUpdate(n *memberlist.Node) {
	m, err := member(n)
	if err != nil {
		d.metrics.refuse("member")
		return
	}
	d.lost.found(m.Node)
	d.members.put(m)
}

// NotifyLeave notes that a member failed or left.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	m, err := member(n)
	if err != nil {
		return
	}
	d.members.remove(m.Node, func(was Member) {
		if !was.Self && was.State != Leaving {
			d.lost.add(was)
		}
	})
}

// NotifyConflict passes a name at two addresses on.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	known, err := member(existing)
	if err != nil {
		return
	}
	next, err := member(other)
	if err != nil {
		d.metrics.refuse("member")
		return
	}
	select {
	case d.conflicts <- pair{known, next}:
	default:
	}
}

// NodeMeta returns this node's record.
func (d *delegate) NodeMeta(int) []byte { return *d.record.Load() }

// NotifyMsg is for messages that Waystation does not send.
func (d *delegate) NotifyMsg([]byte) {}

// GetBroadcasts has nothing to add to gossip.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState has nothing to add to a state exchange.
func (d *delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState takes nothing from a state exchange.
func (d *delegate) MergeRemoteState([]byte, bool) {}
