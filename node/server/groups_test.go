package server_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

func settings(change func(*waystationv1.GroupSettings)) *waystationv1.GroupSettings {
	s := &waystationv1.GroupSettings{}
	change(s)
	return s
}

// A group is made, changed, and is as it was said after a restart.
func TestGroupsAreMadeAndChanged(t *testing.T) {
	dir := dataDir(t)
	n := start(t, dir)
	made, err := n.rpc.CreateGroup(t.Context(), &waystationv1.CreateGroupRequest{Name: "ci", Settings: settings(func(s *waystationv1.GroupSettings) {
		s.MaxAttempts, s.OrderPolicy = new(uint32(1)), new("block")
	})})
	if err != nil || made.GetGroup().GetSettings().GetMaxBatch() != 32 || made.GetGroup().GetVersion() != 1 {
		t.Fatalf("made %v, %v", made, err)
	}
	n.publish("acme/api", "one")
	n.publish("acme/api", "two")
	if got := n.failOne("ci"); got != 1 {
		t.Fatalf("delivered %d, want 1", got)
	}
	if list := n.pullNow("ci"); len(list) != 0 {
		t.Fatalf("behind a dead packet that blocks: %v", list)
	}
	n.stop()
	n = start(t, dir)
	if list := n.pullNow("ci"); len(list) != 0 {
		t.Fatalf("behind a dead packet that blocks, after a restart: %v", list)
	}
	changed, err := n.rpc.UpdateGroup(t.Context(), &waystationv1.UpdateGroupRequest{Name: "ci", Settings: settings(func(s *waystationv1.GroupSettings) {
		s.OrderPolicy, s.Lease = new("skip"), durationpb.New(5*time.Second)
	})})
	if g := changed.GetGroup().GetSettings(); err != nil || g.GetOrderPolicy() != "skip" || g.GetMaxAttempts() != 1 || g.GetLease().AsDuration() != 5*time.Second {
		t.Fatalf("changed %v, %v", changed, err)
	}
	redriven, err := n.rpc.RedriveDeadLetters(t.Context(), &waystationv1.RedriveDeadLettersRequest{Group: "ci"})
	if err != nil || redriven.GetRedriven() != 1 {
		t.Fatalf("redriven %v, %v", redriven, err)
	}
	if got := n.failOne("ci"); got != 1 {
		t.Fatalf("delivered %d, want 1 again", got)
	}
	if got := n.failOne("ci"); got != 2 {
		t.Fatalf("delivered %d, want 2: the group skips now", got)
	}
	list, err := n.rpc.ListGroups(t.Context(), &waystationv1.ListGroupsRequest{})
	if err != nil || len(list.GetGroups()) != 1 || list.GetGroups()[0].GetVersion() != 2 {
		t.Fatalf("groups %v, %v", list, err)
	}
}

// failOne pulls a packet of a group, rejects it, and returns its number.
func (n *node) failOne(group string) uint64 {
	n.t.Helper()
	list, err := n.rpc.Pull(n.t.Context(), &waystationv1.PullRequest{Group: group, Max: 1, WaitMs: 30_000})
	if err != nil || len(list.GetDeliveries()) != 1 {
		n.t.Fatalf("pull: %v, %v", list, err)
	}
	d := list.GetDeliveries()[0]
	answer, err := n.rpc.Settle(n.t.Context(), &waystationv1.SettleRequest{Group: group, Settlements: []*waystationv1.Settlement{{
		RepoId: d.GetPacket().GetRepoId(), Sequence: d.GetSequence(), LeaseToken: d.GetLeaseToken(), Outcome: waystationv1.Outcome_DEAD,
	}}})
	if err != nil || answer.GetResults()[0].GetError() != nil {
		n.t.Fatalf("settle: %v, %v", answer, err)
	}
	return d.GetSequence()
}

// pullNow is what a group gives out at once.
func (n *node) pullNow(group string) []*waystationv1.Delivery {
	n.t.Helper()
	list, err := n.rpc.Pull(n.t.Context(), &waystationv1.PullRequest{Group: group, Max: 10})
	if err != nil {
		n.t.Fatal(err)
	}
	return list.GetDeliveries()
}

func TestGroupSettingsRefused(t *testing.T) {
	n := start(t, dataDir(t))
	create := func(name string, change func(*waystationv1.GroupSettings)) error {
		_, err := n.rpc.CreateGroup(t.Context(), &waystationv1.CreateGroupRequest{Name: name, Settings: settings(change)})
		return err
	}
	for range 2 { // the same once more changes nothing
		if err := create("there", func(*waystationv1.GroupSettings) {}); err != nil {
			t.Fatal(err)
		}
	}
	for field, err := range map[string]error{
		"group":        create("there", func(s *waystationv1.GroupSettings) { s.MaxAttempts = new(uint32(9)) }),
		"start":        create("x", func(s *waystationv1.GroupSettings) { s.Start = new("monday") }),
		"max_attempts": create("x", func(s *waystationv1.GroupSettings) { s.MaxAttempts = new(uint32(0)) }),
		"max_batch":    create("x", func(s *waystationv1.GroupSettings) { s.MaxBatch = new(uint32(5000)) }),
		"backoff_base": create("x", func(s *waystationv1.GroupSettings) { s.BackoffBase = durationpb.New(-time.Second) }),
		"backoff_max":  create("x", func(s *waystationv1.GroupSettings) { s.BackoffMax = durationpb.New(time.Millisecond) }),
		"lease":        create("x", func(s *waystationv1.GroupSettings) { s.Lease = durationpb.New(time.Minute * 61) }),
		"order_policy": create("x", func(s *waystationv1.GroupSettings) { s.OrderPolicy = new("sideways") }),
	} {
		if got := fieldOf(err); got != field {
			t.Errorf("%s: field %q of %v", field, got, err)
		}
	}
	if _, err := n.rpc.UpdateGroup(t.Context(), &waystationv1.UpdateGroupRequest{Name: "there"}); err != nil {
		t.Errorf("a change of nothing: %v", err)
	}
	if _, err := n.rpc.UpdateGroup(t.Context(), &waystationv1.UpdateGroupRequest{Name: "nobody"}); fieldOf(err) != "group" {
		t.Errorf("change of nobody: %v", err)
	}
	latest := settings(func(s *waystationv1.GroupSettings) { s.Start = new("latest") })
	if _, err := n.rpc.UpdateGroup(t.Context(), &waystationv1.UpdateGroupRequest{Name: "there", Settings: latest}); fieldOf(err) != "start" {
		t.Errorf("another start: %v", err)
	}
	if list, err := n.rpc.ListGroups(t.Context(), &waystationv1.ListGroupsRequest{}); err != nil || len(list.GetGroups()) != 1 {
		t.Errorf("groups %v, %v", list, err)
	}
}
