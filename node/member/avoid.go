package member

import (
	"time"

	"github.com/waystation/waystation/cluster/gossip"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/transport"
)

// silentAfter is for how long a node may be silent and still be given a
// leadership. Heartbeats come every 100 ms.
const silentAfter = 400 * time.Millisecond

// avoid are the nodes that should be given no leadership now, as far as is known
// here: this one if it is to lead nothing, and those that could not take over.
func (m *Member) avoid(p *Parts) []identity.NodeID {
	out := unfit(m.gossip.Members(), m.transport.Peers())
	if p.Resign() {
		out = append(out, m.cfg.Identity.Node)
	}
	return out
}

// unfit are the nodes that start or drain, and those that are not there at this
// moment: a leadership that is handed to one of these stops its group for an
// election timeout. Who gossip does not know may be well all the same.
func unfit(members []gossip.Member, peers []transport.PeerStatus) (out []identity.NodeID) {
	states := map[identity.NodeID]gossip.State{}
	for i := range members {
		states[members[i].Node] = members[i].State
	}
	for i := range peers {
		p := &peers[i]
		state, known := states[p.Node]
		there := p.Connected && p.Heard >= 0 && p.Heard <= silentAfter
		if !there || known && state != gossip.Serving {
			out = append(out, p.Node)
		}
	}
	return out
}
