package server_test

import (
	"testing"
	"time"

	"github.com/waystation/waystation/client"
)

// TestDeadLettersByClient: dead letters are listed with their attempts, redriven and
// discarded through the client library.
func TestDeadLettersByClient(t *testing.T) {
	t.Parallel()
	n := start(t, dataDir(t))
	c, err := client.Dial(t.Context(), n.Addresses.GRPC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	for _, repo := range []string{"acme/api", "acme/web", "acme/doc"} {
		n.publish(repo, "x")
	}
	for range 3 {
		n.failOne("ci")
	}
	q := client.DeadLetterQuery{Group: "ci", Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)}
	list, next, err := c.DeadLetters(t.Context(), q)
	if err != nil || len(list) != 3 || next != "" || list[0].Reason != "rejected" || len(list[0].Failures) != 1 {
		t.Fatalf("dead letters: %+v, %q, %v", list, next, err)
	}
	q.Sequence, q.RepoID = 1, "acme/web"
	if n, _, err := c.RedriveDeadLetters(t.Context(), q, 100); err != nil || n != 1 {
		t.Fatalf("redriven: %d, %v", n, err)
	}
	if d := n.failOne("ci"); d != 2 {
		t.Fatalf("delivered %d, want 2", d)
	}
	q.Sequence = 0
	if list, _, err := c.DeadLetters(t.Context(), q); err != nil || len(list) != 1 || list[0].RedriveOf != 1 || list[0].Sequence != 2 {
		t.Fatalf("dead letters: %+v, %v", list, err)
	}
	q.RepoID, q.Limit = "", 1
	for want := uint64(1); want <= 3; want++ {
		n, cursor, err := c.DiscardDeadLetters(t.Context(), q)
		if err != nil || n != 1 {
			t.Fatalf("discarded: %d, %v", n, err)
		}
		q.Cursor = cursor
	}
	if list, _, err := c.DeadLetters(t.Context(), client.DeadLetterQuery{Group: "ci"}); err != nil || len(list) != 0 {
		t.Fatalf("what is left: %+v, %v", list, err)
	}
}
