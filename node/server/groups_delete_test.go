package server_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// A deleted group is gone at once, for its workers too; its name makes another one,
// that begins anew, after a restart as well.
func TestGroupsAreDeleted(t *testing.T) {
	dir := dataDir(t)
	n := start(t, dir)
	n.publish("acme/api", "one")
	n.publish("acme/api", "two")
	if got := n.failOne("ci"); got != 1 {
		t.Fatalf("delivered %d, want 1", got)
	}
	open, err := n.rpc.Pull(t.Context(), &waystationv1.PullRequest{Group: "ci", Max: 1, WaitMs: 30_000})
	if err != nil || len(open.GetDeliveries()) != 1 {
		t.Fatalf("pull: %v, %v", open, err)
	}
	work, err := n.rpc.Work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := work.Send(&waystationv1.WorkRequest{Open: &waystationv1.WorkOpen{Group: "ci", Credit: 1}}); err != nil {
		t.Fatal(err)
	}
	if m, err := work.Recv(); err != nil || !m.GetReady() {
		t.Fatalf("a worker's stream began with %v, %v", m, err)
	}
	if _, err := n.rpc.DeleteGroup(t.Context(), &waystationv1.DeleteGroupRequest{Name: "ci"}); err != nil {
		t.Fatal(err)
	}
	if m, err := work.Recv(); status.Code(err) != codes.NotFound {
		t.Errorf("its worker got %v, %v", m, err)
	}
	if list, err := n.rpc.ListGroups(t.Context(), &waystationv1.ListGroupsRequest{}); err != nil || len(list.GetGroups()) != 0 {
		t.Errorf("groups %v, %v", list, err)
	}
	if _, err := n.rpc.DeleteGroup(t.Context(), &waystationv1.DeleteGroupRequest{Name: "ci"}); fieldOf(err) != "group" || status.Code(err) != codes.NotFound {
		t.Errorf("deleted twice: %v", err)
	}
	n.awaitNothingRetained("acme/api")
	n.publish("acme/api", "three")
	n.stop()
	n = start(t, dir)
	if list, err := n.rpc.ListGroups(t.Context(), &waystationv1.ListGroupsRequest{}); err != nil || len(list.GetGroups()) != 0 {
		t.Errorf("groups after a restart: %v, %v", list, err)
	}
	again, err := n.rpc.Pull(t.Context(), &waystationv1.PullRequest{Group: "ci", Max: 10, WaitMs: 30_000})
	if err != nil || len(again.GetDeliveries()) != 1 || again.GetDeliveries()[0].GetSequence() != 3 {
		t.Fatalf("another group of the name got %v, %v", again, err)
	}
	old := open.GetDeliveries()[0]
	answer, err := n.rpc.Settle(t.Context(), &waystationv1.SettleRequest{Group: "ci", Settlements: []*waystationv1.Settlement{{
		RepoId: old.GetPacket().GetRepoId(), Sequence: old.GetSequence(), LeaseToken: old.GetLeaseToken(), Outcome: waystationv1.Outcome_DONE,
	}}})
	if err != nil || answer.GetResults()[0].GetError().GetCode() != "STALE_LEASE" {
		t.Errorf("a settlement of the deleted group's lease: %v, %v", answer, err)
	}
	dead, err := n.rpc.ListDeadLetters(t.Context(), &waystationv1.ListDeadLettersRequest{Group: "ci"})
	if err != nil || len(dead.GetDead()) != 0 {
		t.Errorf("dead letters %v, %v", dead, err)
	}
}

// awaitNothingRetained waits until nothing of a repository is kept.
func (n *node) awaitNothingRetained(repo string) {
	n.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		info, err := n.rpc.GetRepository(n.t.Context(), &waystationv1.GetRepositoryRequest{RepoId: repo})
		if err == nil && info.GetBacklog() == 0 {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("repository %v, %v", info, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-n.t.Context().Done():
		}
	}
}
