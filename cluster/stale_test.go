package cluster_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// listening is a way to the others that notes how far its node says to be.
type listening struct {
	port
	said *atomic.Uint64
}

func (l listening) Send(g storage.GroupID, ms []*pb.Message) {
	for _, m := range ms {
		if m.GetType() == pb.MsgAppResp && !m.GetReject() {
			l.said.Store(m.GetIndex())
		}
	}
	l.port.Send(g, ms)
}

// A snapshot of what a replica has already is not taken, and the leader is told
// what there is: one that never heard so would send it for ever in an idle group.
func TestASnapshotThatIsNotNewerIsAnswered(t *testing.T) {
	c := newCell(t)
	c.leader()
	var said atomic.Uint64
	c.open(2, vfs.NewCrashableMem(), 22, true, func(cfg *cluster.Config) { cfg.Transport = listening{port{c.mesh, 2}, &said} })
	c.change("l22")
	c.agree()
	eventually(t, "the leader is told what the learner has", func() bool {
		l, term := c.leading()
		at := c.nodes[2].engine.Status(0)
		if l == 0 || at.Leader == 0 || term != at.Term {
			return false
		}
		said.Store(0)
		m := &pb.Message{
			Type: pb.MsgSnap.Enum(), From: new(uint64(c.ids[l])), To: new(uint64(22)), Term: &term,
			Snapshot: replica.SnapshotOf(storage.Position{Index: at.Applied, Term: term}, at.Conf),
		}
		if err := c.nodes[2].engine.ReceiveSnapshot(0, m, strings.NewReader("")); !errors.Is(err, cluster.ErrSnapshot) {
			t.Fatalf("it was taken: %v", err)
		}
		return said.Load() >= at.Applied
	})
}
