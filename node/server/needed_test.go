package server_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/meta"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/server"
	"github.com/waystation/waystation/storage"
)

// TestDamagedMetaIsReplaced: a node whose replica of meta is damaged sees no map any
// more. It takes the successor from the answer to its report, and goes on.
func TestDamagedMetaIsReplaced(t *testing.T) {
	t.Parallel()
	engines := make(chan *cluster.Engine, 1)
	first := start(t, dataDir(t))
	start(t, dataDir(t), joining(first, "second"))
	startWith(t, dataDir(t), server.Hooks{Running: func(e *cluster.Engine) { engines <- e }}, joining(first, "third"))
	third := <-engines
	voter := func() storage.ReplicaID {
		st := third.Status(meta.MetaGroup)
		if st.Err != nil || !st.Conf.Votes(st.Replica) || len(st.Conf.Voters) != 3 {
			return 0
		}
		return st.Replica
	}
	awaitLong(t, "three voters of meta", func() bool { return voter() != 0 })
	old := voter()
	third.Damaged(storage.Damage{Group: meta.MetaGroup, Err: errors.New("a flipped bit")})
	awaitLong(t, "a new replica of meta", func() bool { return voter() > old })
}

// TestNeededNodeIsNotRemoved: of two nodes one votes alone; without it all would be
// gone.
func TestNeededNodeIsNotRemoved(t *testing.T) {
	t.Parallel()
	first := start(t, dataDir(t))
	second := start(t, dataDir(t), joining(first, "second"))
	name := first.describe().GetNodes()[0].GetName()
	if name == "second" {
		name = first.describe().GetNodes()[1].GetName()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := second.rpc.RemoveNode(ctx, &waystationv1.RemoveNodeRequest{Node: name})
	if err == nil || !strings.Contains(err.Error(), "drain") {
		t.Fatalf("the only voter is removed: %v", err)
	}
	first.publish("acme/api", "x")
}
