package route

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/actors/repository"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// TestRoutesFollowTheTable: what clients are told is what the router goes by, and
// they are told again when that changes.
func TestRoutesFollowTheTable(t *testing.T) {
	c := newTrio(t, func(s *settings) { s.route.ClusterID, s.route.HashSeed, s.relay.HashSeed = "cluster", 7, 7 })
	relay := c.nodes[1].router.Relay()
	told := func() (*waystationv1.Routes, <-chan struct{}) {
		message, changed := relay.Routes()
		var m waystationv1.PublishStreamResponse
		if err := proto.Unmarshal(message, &m); err != nil || len(m.GetResults()) > 0 {
			t.Fatalf("routes are %v, %v", &m, err)
		}
		return m.GetRoutes(), changed
	}
	r, changed := told()
	if r.GetClusterId() != "cluster" || r.GetNodeId() != "b" || r.GetHashSeed() != 7 || len(r.GetNodes()) != 3 || len(r.GetPartitions()) != testPartitions {
		t.Fatalf("told %v", r)
	}
	leads := func(r *waystationv1.Routes, p int) (addr string, term uint64) {
		x := r.GetPartitions()[p]
		if x.GetLeader() == 0 {
			return "", x.GetTerm()
		}
		return r.GetNodes()[x.GetLeader()-1].GetGrpc(), x.GetTerm()
	}
	for p := range testPartitions {
		if addr, term := leads(r, p); addr != "public-"+nodeName(p%3)+":1" || term == 0 {
			t.Errorf("partition %d: told %s in term %d", p, addr, term)
		}
	}
	_, before := leads(r, 2)
	c.w.lead(repository.PartitionID(2), 0)
	await(t, "news", func() bool {
		select {
		case <-changed:
			r, changed = told()
		default:
		}
		addr, term := leads(r, 2)
		return addr == "public-a:1" && term > before
	})
	c.w.lead(repository.PartitionID(2), -1)
	await(t, "no leader", func() bool {
		r, _ = told()
		addr, _ := leads(r, 2)
		return addr == ""
	})
}
