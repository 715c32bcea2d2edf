package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waystation/waystation/actors"
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

// TestRemovalAsksBothEachTime: leaders and meta must agree at the same time. What the
// leaders said before a wait may be over behind it, and the waits do not add up.
func TestRemovalAsksBothEachTime(t *testing.T) {
	refused := fmt.Errorf("node b: %w", meta.ErrLastCopies)
	for name, x := range map[string]struct {
		counted []string // what the leaders say, the last of it for ever
		take    []error  // what meta says
		tries   int
		want    string // of the error; empty: it is removed
	}{
		"at once":                              {[]string{""}, []error{nil}, 1, ""},
		"meta hears of it later":               {[]string{""}, []error{refused, refused, nil}, 3, ""},
		"leaders let go of it":                 {[]string{"meta counts on it", "meta counts on it", ""}, []error{nil}, 1, ""},
		"another voter fails while meta waits": {[]string{"", "meta counts on it"}, []error{refused, nil}, 1, "meta counts on it"},
		"meta never hears of it":               {[]string{""}, []error{refused}, int(removeWait / removePoll), "drain"},
		"another refusal":                      {[]string{""}, []error{meta.ErrNoNode}, 1, meta.ErrNoNode.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked, tries := 0, 0
				r := removal{wait: removeWait}
				r.counted = func(context.Context) string { asked++; return x.counted[min(asked, len(x.counted))-1] }
				r.take = func(context.Context) error { tries++; return x.take[min(tries, len(x.take))-1] }
				begin := time.Now()
				err := r.run(t.Context())
				if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
					t.Errorf("error %v, want %q", err, x.want)
				}
				if tries < x.tries || tries > x.tries+1 || time.Since(begin) > removeWait {
					t.Errorf("meta was asked %d times in %v, want %d", tries, time.Since(begin), x.tries)
				}
				var refusal *actors.Refusal
				if errors.As(err, &refusal) && refusal.Code != actors.CodeUnavailable {
					t.Errorf("code %v", refusal.Code)
				}
			})
		})
	}
}
