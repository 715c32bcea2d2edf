package member

import (
	"slices"
	"testing"
	"time"

	"github.com/waystation/waystation/cluster/gossip"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/transport"
)

func TestWhoCannotLeadNow(t *testing.T) {
	node := func(b byte) identity.NodeID { return identity.NodeID{b} }
	member := func(b byte, s gossip.State) gossip.Member {
		return gossip.Member{Meta: gossip.Meta{Node: node(b), State: s}}
	}
	members := []gossip.Member{
		member(1, gossip.Serving), member(2, gossip.Starting), member(3, gossip.Draining),
		member(4, gossip.Serving), member(5, gossip.Serving), member(6, gossip.Serving),
	}
	var peers []transport.PeerStatus
	for b := range byte(7) {
		peers = append(peers, transport.PeerStatus{Node: node(b + 1), Connected: b+1 != 4, Heard: 50 * time.Millisecond})
	}
	peers[4].Heard = 2 * time.Second
	peers[5].Heard = -1
	// 7 serves, as far as is known: gossip has lost it, raft has not.
	want := []identity.NodeID{node(2), node(3), node(4), node(5), node(6)}
	if got := unfit(members, peers); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
