package cluster_test

import (
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/storage"
)

// The log that is kept for a snapshot under way comes near its limit as entries
// come in, and the leader says so until the snapshot is there.
func TestStrainOfASnapshot(t *testing.T) {
	c := newCell(t, smallLogs, func(cfg *cluster.Config) { cfg.HoldBytes = 16 << 10 }).trio()
	c.propose(500)
	disk := c.close(3).(*vfs.MemFS)
	c.outrun(3)
	k, _ := c.leader()
	if s := c.nodes[k].engine.Strain(0); s != 0 {
		t.Errorf("strain %v without a snapshot", s)
	}
	going, stalled := make(chan struct{}), make(chan struct{})
	goOn, stall := sync.OnceFunc(func() { close(going) }), sync.OnceFunc(func() { close(stalled) })
	t.Cleanup(goOn)
	n := openStores(t, disk, append(c.changes, func(cfg *cluster.Config) {
		cfg.Transport = port{c.mesh, 3}
		cfg.State = &moments{cfg.State.(*storage.State), func(moment string) {
			if moment == "before the staging" {
				stall()
				<-going
			}
		}}
	})...)
	c.nodes[3] = n
	n.toys[0] = newToy(0, n.state)
	if err := n.engine.AddGroup(0, 33, n.toys[0]); err != nil {
		t.Fatal(err)
	}
	c.mesh.attach(3, n.engine)
	n.engine.Start()
	<-stalled
	strain := func() (most float64) {
		for _, n := range c.nodes {
			most = max(most, n.engine.Strain(0))
		}
		return most
	}
	eventually(t, "a strain", func() bool { c.propose(1000); return strain() > 0.5 })
	goOn()
	eventually(t, "no strain any more", func() bool { return strain() == 0 })
	c.agree()
}

// A follower without room acknowledges nothing, and does not disturb the others;
// with room, it catches up.
func TestFullFollower(t *testing.T) {
	var full sync.Map // node → true
	c := newCell(t, func(cfg *cluster.Config) {
		cfg.Full = func() bool { _, ok := full.Load(cfg.Log); return ok }
	}).trio()
	c.propose(1)
	k, _ := c.leader()
	follower := c.nodes[k%3+1]
	full.Store(follower.log, true)
	for range 20 {
		c.propose(100)
	}
	have, last := follower.engine.Status(0).Last, c.nodes[k].engine.Status(0).Last
	if have > last-15 { // what was on its way may have come
		t.Errorf("the follower has %d of %d entries", have, last)
	}
	if l, _ := c.leader(); l != k {
		t.Errorf("node %d leads, was %d", l, k)
	}
	full.Delete(follower.log)
	eventually(t, "the follower to catch up", func() bool { return follower.engine.Status(0).Last >= last })
	c.agree()
}

// What is said of messages that were lost is taken at any time, of anybody.
func TestUnreachable(t *testing.T) {
	var gate cluster.Gate
	gate.Unreachable(0, 22)
	c := newCell(t).trio()
	c.propose(1)
	for k, n := range c.nodes {
		if k == 1 {
			gate.Open(n.engine)
			gate.Unreachable(0, 22)
		}
		for _, id := range []storage.ReplicaID{11, 22, 33, 99} {
			n.engine.Unreachable(0, id)
			n.engine.Unreachable(7, id)
		}
		n.engine.Receive(0, []*pb.Message{})
	}
	for range 10 {
		c.propose(10)
	}
	c.agree()
}
