package server

import (
	"strings"
	"testing"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
)

// TestWhoIsCountedOn: a node is not removed as long as a group would have no
// majority without it.
func TestWhoIsCountedOn(t *testing.T) {
	node := func(b byte) identity.NodeID { return identity.NodeID{b} }
	var v meta.View
	apply := func(c meta.Command) {
		t.Helper()
		out, err := meta.Apply(&v, c, meta.At{TimeMs: 1}, nil)
		if err != nil || out.Result.Err != nil {
			t.Fatalf("%T: %v %v", c, err, out.Result.Err)
		}
		v = *out.View
	}
	member := func(b byte) meta.Node {
		return meta.Node{ID: node(b), Name: string('a' + b), Boot: 1, Features: meta.Features{Min: 1, Max: 1}}
	}
	apply(&meta.Init{Cluster: meta.ClusterID{1}, Name: "test", Partitions: 1, FeatureLevel: 1, Node: member(1)})
	apply(&meta.JoinNode{Node: member(2)})
	apply(&meta.JoinNode{Node: member(3)})
	replicaOf := func(b byte) uint64 {
		id, ok := v.ReplicaOn(meta.MetaGroup, node(b))
		if !ok {
			t.Fatalf("node %d has no replica of meta", b)
		}
		return uint64(id)
	}
	one, _ := v.ReplicaOn(1, node(1))
	reports := func(metaVoters []byte, up ...byte) map[identity.NodeID]*peerv1.ReportResponse {
		out := map[identity.NodeID]*peerv1.ReportResponse{}
		for _, b := range up {
			out[node(b)] = &peerv1.ReportResponse{}
		}
		g := &peerv1.GroupReport{Group: uint32(meta.MetaGroup), Replica: replicaOf(1), Leader: replicaOf(1)}
		for _, b := range metaVoters {
			g.Voters = append(g.Voters, replicaOf(b))
		}
		out[node(1)].Groups = []*peerv1.GroupReport{g, {Group: 1, Replica: uint64(one), Leader: uint64(one), Voters: []uint64{uint64(one)}}}
		return out
	}
	want := func(gone byte, r map[identity.NodeID]*peerv1.ReportResponse, text string) {
		t.Helper()
		if got := counted(&v, r, node(gone)); !strings.HasPrefix(got, text) || text == "" && got != "" {
			t.Errorf("node %d: %q, want %q", gone, got, text)
		}
	}
	want(3, reports([]byte{1}, 1, 2, 3), "") // it learns only
	want(3, reports([]byte{1, 2, 3}, 1, 2, 3), "")
	want(3, reports([]byte{1, 2, 3}, 1, 2), "") // lost for good, the others have the majority
	want(3, reports([]byte{1, 2, 3}, 1, 3), "meta counts on it: of 3 voters, 1 would be left")
	want(1, reports([]byte{1, 2, 3}, 1, 2, 3), "partition 0 counts on it: of 1 voters, 0 would be left")
	none := reports([]byte{1}, 1, 2, 3)
	none[node(1)].Groups = none[node(1)].Groups[:1]
	want(3, none, "partition 0 has no leader")
	// One removed after the other, before meta has let go of the first.
	wish := meta.GroupWish{Group: meta.MetaGroup}
	for b := range byte(3) {
		id, _ := v.ReplicaOn(meta.MetaGroup, node(b+1))
		wish.Replicas = append(wish.Replicas, meta.ReplicaWish{Replica: id, Node: node(b + 1), Role: meta.Voter, Leader: b == 0})
	}
	apply(&meta.SetMap{Generation: v.Cluster.Generation, Groups: []meta.GroupWish{wish}})
	p, _ := v.Placement(meta.MetaGroup)
	settled := &meta.ReportGroup{Group: meta.MetaGroup, Version: p.Version, Term: 5}
	for _, w := range wish.Replicas {
		settled.Voters = append(settled.Voters, w.Replica)
	}
	apply(settled)
	apply(&meta.SetNodeState{Node: node(3), State: meta.NodeRemoved})
	r := map[identity.NodeID]*peerv1.ReportResponse{}
	for b := range byte(3) {
		r[node(b+1)] = &peerv1.ReportResponse{}
	}
	r[node(1)].Groups = []*peerv1.GroupReport{{Group: uint32(meta.MetaGroup), Replica: replicaOf(1), Leader: replicaOf(1), Voters: []uint64{replicaOf(1), replicaOf(2), 99}}}
	want(2, r, "meta counts on it: of 3 voters, 1 would be left")
}
