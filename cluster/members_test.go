package cluster_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/storage"
)

// One replica becomes three and is one again, under load, over a net that loses
// and doubles messages. The log is truncated all the while, so that those who
// join get snapshots.
func TestGrowAndShrink(t *testing.T) {
	c := newCell(t, smallLogs)
	c.leader()
	for range 100 {
		c.propose(1000)
	}
	c.mesh.loses(true)
	c.open(2, vfs.NewCrashableMem(), 22, true)
	c.open(3, vfs.NewCrashableMem(), 33, true)
	stop := c.load(1000)
	c.change("l22")
	c.change("l33")
	c.change("v22 v33")
	for k := range c.nodes {
		c.members(k, "voters [11 22 33]")
	}
	stop()
	c.agree()
	for k, n := range c.nodes {
		if s := n.engine.Status(0); s.First <= cluster.FirstIndex {
			t.Errorf("node %d has the whole log: %+v", k, s)
		}
	}
	stop = c.load(1000)
	c.change("r22 r33")
	c.members(1, "voters [11]")
	stop()
	for _, k := range []int{2, 3} {
		if err := c.nodes[k].engine.RemoveGroup(0); err != nil {
			t.Fatal(err)
		}
		if s := c.nodes[k].engine.Status(0); !errors.Is(s.Err, cluster.ErrNoGroup) {
			t.Fatalf("node %d after removal: %+v", k, s)
		}
		if got := c.dump(c.nodes[k]); got != "" {
			t.Fatalf("node %d kept\n%s", k, got)
		}
		if err := c.nodes[k].engine.JoinGroup(0, c.ids[k], newToy(0, c.nodes[k].state)); !errors.Is(err, cluster.ErrTombstone) {
			t.Fatalf("a removed replica comes back: %v", err)
		}
		c.close(k)
	}
	c.agree()
}

// A leader that dies is replaced, and what was acknowledged is there. It comes
// back and catches up.
func TestFailover(t *testing.T) {
	c := newCell(t).trio()
	for range 3 {
		for range 20 {
			c.propose(100)
		}
		k, term := c.leader()
		fs := c.close(k)
		c.propose(100)
		if _, next := c.leader(); next <= term {
			t.Fatalf("term %d after %d", next, term)
		}
		c.open(k, fs, c.ids[k], false)
		c.agree()
		now, _ := c.leader()
		if a := c.nodes[now].readIndex(0); a.err != nil || a.index < c.nodes[now].engine.Status(0).Commit {
			t.Fatalf("the leader's read: %+v", a)
		}
	}
}

// A leader that is cut off steps down: what it has in flight is unknown, what
// comes then is refused, and it answers no read. Its tail, which was never
// committed, is overwritten, on the disk too.
func TestIsolatedLeader(t *testing.T) {
	c := newCell(t).trio()
	for round := 0; !c.overwrite(round); round++ {
		if round == 20 {
			t.Fatal("there never was a tail to be overwritten")
		}
	}
}

// overwrite isolates a leader for a while, and says whether it had a tail that
// was overwritten then. It has none if it steps down before it writes.
func (c *cell) overwrite(round int) bool {
	t := c.t
	c.propose(100)
	k, term := c.leader()
	c.mesh.isolate(k, true)
	old := c.nodes[k]
	var waiting []<-chan answer
	for i := range 50 {
		waiting = append(waiting, old.propose(0, term, packet(100, byte(i))))
	}
	for _, w := range waiting {
		if a := old.wait(w); !errors.Is(a.err, cluster.ErrUnknown) && !errors.Is(a.err, cluster.ErrNotLeader) {
			t.Fatalf("in flight: %+v", a)
		}
	}
	if a := old.readIndex(0); !errors.Is(a.err, cluster.ErrNotLeader) {
		t.Fatalf("a read of who was cut off: %+v", a)
	}
	tail := old.engine.Status(0)
	delete(c.nodes, k)
	for range 3 {
		c.propose(100)
	}
	now, _ := c.leader()
	overwritten := tail.Last > tail.Commit && c.nodes[now].engine.Status(0).Last < tail.Last
	c.nodes[k] = old
	c.mesh.isolate(k, false)
	c.agree()
	// After a crash the disk has nothing of the old tail.
	c.mesh.isolate(k, true) // what is said after the disk's last moment is not heard
	crashed := old.fs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng(uint64(round))})
	c.close(k)
	c.mesh.isolate(k, false)
	c.open(k, crashed, c.ids[k], false)
	c.agree()
	return overwritten
}

// Who follows answers neither reads nor proposals.
func TestFollowerRefuses(t *testing.T) {
	c := newCell(t).trio()
	k, term := c.leader()
	for i, n := range c.nodes {
		if i == k {
			continue
		}
		if a := n.readIndex(0); !errors.Is(a.err, cluster.ErrNotLeader) {
			t.Errorf("node %d answers a read: %+v", i, a)
		}
		if a := n.wait(n.propose(0, term, packet(1, 1))); !errors.Is(a.err, cluster.ErrNotLeader) {
			t.Errorf("node %d takes a proposal: %+v", i, a)
		}
		if s := n.engine.Status(0); s.Progress != nil {
			t.Errorf("node %d knows the others' progress: %+v", i, s.Progress)
		}
		if err := n.engine.TransferLeader(0, c.ids[i]); !errors.Is(err, cluster.ErrNotLeader) {
			t.Errorf("node %d hands over what it has not: %v", i, err)
		}
	}
}

// What an entry led to goes to its proposer, and is dropped, once, where there is none.
func TestResultsThatNobodyWaitsForAreDropped(t *testing.T) {
	c := newCell(t).trio()
	index := c.propose(100)
	c.agree() // with a later entry: what became of this one's result is settled
	total := 0
	for k, n := range c.nodes {
		got := n.toys[0].drops(index)
		if got > 1 {
			t.Errorf("node %d dropped it %d times", k, got)
		}
		total += got
	}
	if total != 2 {
		t.Errorf("%d of three nodes dropped it, and one proposed it", total)
	}
}

func TestTransferLeader(t *testing.T) {
	c := newCell(t).trio()
	stop := c.load(100)
	for _, to := range []int{3, 1, 2} {
		eventually(t, "the leadership moves", func() bool {
			k, _ := c.leader()
			if k == to {
				return true
			}
			_ = c.nodes[k].engine.TransferLeader(0, c.ids[to]) // it may have moved meanwhile
			return false
		})
	}
	stop()
	c.agree()
}

// A change that makes no sense, or comes while another one is under way, is
// refused, and changes nothing.
func TestRefusedChanges(t *testing.T) {
	c := newCell(t)
	k, term := c.leader()
	propose := func(term uint64, what string) error {
		changes, err := pb.ConfChangesFromString(what)
		if err != nil {
			t.Fatal(err)
		}
		out := make(chan error, 2)
		c.nodes[k].engine.ProposeConf(0, term, &pb.ConfChangeV2{Changes: changes}, func(err error) { out <- err })
		select {
		case err := <-out:
			return err
		case <-time.After(patience):
			t.Fatal("no answer")
			return nil
		}
	}
	if err := propose(term, "r11"); !errors.Is(err, cluster.ErrConf) {
		t.Errorf("without voters: %v", err)
	}
	if err := propose(term, ""); !errors.Is(err, cluster.ErrConf) {
		t.Errorf("out of nothing: %v", err)
	}
	if err := propose(term+1, "l22"); !errors.Is(err, cluster.ErrNotLeader) {
		t.Errorf("in another term: %v", err)
	}
	if got := c.nodes[k].engine.Status(0).Conf.String(); got != "voters [11]" {
		t.Errorf("changed to %s", got)
	}
	c.propose(1)
	c.change("l22")
	// The second voter is not there: the change to it is made, and then nothing is.
	c.change("v22")
	eventually(t, "leadership without a majority ends", func() bool { return !c.nodes[k].engine.Status(0).Leads })
	if err := propose(term, "r22"); !errors.Is(err, cluster.ErrNotLeader) {
		t.Errorf("without a majority: %v", err)
	}
}

// A replica whose log and state do not fit is not there as far as the others
// are concerned, and its node lives on. Another one takes its place.
func TestQuarantinedReplicaIsReplaced(t *testing.T) {
	c := newCell(t, smallLogs).trio()
	for range 100 {
		c.propose(1000)
	}
	fs := c.close(3)
	c.propose(1)
	if err := fs.RemoveAll("state"); err != nil {
		t.Fatal(err)
	}
	n := openStores(t, fs, append(c.changes, func(cfg *cluster.Config) { cfg.Transport = port{c.mesh, 3} })...)
	c.nodes[3] = n
	n.engine.Start()
	n.toys[0] = newToy(0, n.state)
	if err := n.engine.AddGroup(0, 33, n.toys[0]); !errors.Is(err, cluster.ErrQuarantined) {
		t.Fatalf("without its state: %v", err)
	}
	c.mesh.attach(3, n.engine)
	if s := n.engine.Status(0); !errors.Is(s.Err, cluster.ErrQuarantined) {
		t.Fatalf("%+v", s)
	}
	if err := n.engine.RemoveGroup(0); err != nil {
		t.Fatal(err)
	}
	c.place(3, 43, true)
	c.change("l43")
	c.change("r33 v43")
	c.members(3, "voters [11 22 43]")
	c.agree()
	if len(n.fatal) > 0 {
		t.Fatalf("the node ended: %v", <-n.fatal)
	}
}

// A replica that was found damaged while it ran does not come back after a restart,
// though nothing has met the damage yet; its successor does. The only voter of a
// group, which nobody can replace, may try again.
func TestQuarantineOutlivesRestart(t *testing.T) {
	c := newCell(t)
	c.propose(1)
	restart := func(k int, id storage.ReplicaID) error {
		n := openStores(t, c.close(k), append(c.changes, func(cfg *cluster.Config) { cfg.Transport = port{c.mesh, k} })...)
		c.nodes[k] = n
		n.engine.Start()
		n.toys[0] = newToy(0, n.state)
		c.mesh.attach(k, n.engine)
		return n.engine.JoinGroup(0, id, n.toys[0])
	}
	c.nodes[1].engine.Damaged(storage.Damage{Group: 0, Err: storage.ErrCorrupt})
	if err := restart(1, 11); err != nil {
		t.Fatalf("the only voter: %v", err)
	}
	c.trio()
	c.nodes[3].engine.Damaged(storage.Damage{Group: 0, Err: fmt.Errorf("table 7: %w", storage.ErrCorrupt)})
	eventually(t, "the record", func() bool {
		_, err := c.nodes[3].log.Node([]byte("quarantine/\x00\x00\x00\x00"))
		return err == nil
	})
	c.propose(1)
	for range 2 {
		if err := restart(3, 33); !errors.Is(err, cluster.ErrQuarantined) || !strings.Contains(err.Error(), "table 7") {
			t.Fatalf("after a restart: %v", err)
		}
	}
	if err := c.nodes[3].engine.RemoveGroup(0); err != nil {
		t.Fatal(err)
	}
	c.place(3, 43, true)
	c.change("l43")
	c.change("r33 v43")
	if err := restart(3, 43); err != nil {
		t.Fatalf("its successor: %v", err)
	}
	c.propose(1)
	c.agree()
}

// A leader whose disk hangs hands over to one that can write, long before its
// process is ended.
func TestHungDiskHandsOver(t *testing.T) {
	var s syncs
	c := newCell(t, func(cfg *cluster.Config) { cfg.HandoverAfter = 50 * time.Millisecond })
	c.leader()
	c.open(2, s.wrap(vfs.NewMem()), 22, true)
	c.open(3, vfs.NewCrashableMem(), 33, true)
	c.change("l22 l33")
	c.change("v22 v33")
	for !c.hangs(&s) {
	}
	c.agree()
	hung := c.nodes[2]
	if len(hung.fatal) > 0 {
		t.Fatalf("the node ended: %v", <-hung.fatal)
	}
}

// hangs has the disk of node 2 hang while it leads, until another one leads. It
// says whether it still led when that began: a busy machine may take that away.
func (c *cell) hangs(s *syncs) bool {
	c.t.Helper()
	var term uint64
	eventually(c.t, "node 2 leads", func() bool {
		k, now := c.leader()
		if term = now; k != 2 {
			_ = c.nodes[k].engine.TransferLeader(0, 22)
		}
		return k == 2
	})
	release := make(chan struct{})
	s.hang.Store(&release)
	hung := c.nodes[2]
	waiting := hung.propose(0, term, packet(10, 1))
	delete(c.nodes, 2)
	eventually(c.t, "another one leads", func() bool {
		k, next := c.leading()
		return k != 0 && next > term
	})
	c.propose(10)
	a := hung.wait(waiting)
	s.hang.Store(nil)
	close(release)
	c.nodes[2] = hung
	if errors.Is(a.err, cluster.ErrNotLeader) || errors.Is(a.err, cluster.ErrDropped) {
		return false
	}
	if !errors.Is(a.err, cluster.ErrUnknown) {
		c.t.Fatalf("in flight: %+v", a)
	}
	return true
}

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }
