package cluster_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/messages/envelope"
	"github.com/waystation/waystation/storage"
)

// cell is some nodes that share one group, 0.
type cell struct {
	t       *testing.T
	mesh    *mesh
	nodes   map[int]*node
	ids     map[int]storage.ReplicaID
	changes []change
	lastOf  map[int]uint64 // the last index of a node that was closed

	mu    sync.Mutex
	acked map[uint64]uint64 // entry → stamp
	stamp uint64
}

// newCell starts a group with one replica, on node 1.
func newCell(t *testing.T, changes ...change) *cell {
	c := &cell{
		t: t, mesh: newMesh(t), nodes: map[int]*node{}, ids: map[int]storage.ReplicaID{},
		changes: append([]change{quickTicks}, changes...), acked: map[uint64]uint64{},
		lastOf: map[int]uint64{},
	}
	c.open(1, vfs.NewCrashableMem(), 11, false)
	return c
}

// open starts a node on a disk, with its replica.
func (c *cell) open(k int, fs vfs.FS, id storage.ReplicaID, join bool, changes ...change) *node {
	c.t.Helper()
	n := openStores(c.t, fs, append(append([]change{func(cfg *cluster.Config) {
		cfg.Transport = port{c.mesh, k}
	}}, c.changes...), changes...)...)
	c.nodes[k] = n
	n.engine.Start()
	c.mesh.attach(k, n.engine)
	c.place(k, id, join)
	return n
}

func (c *cell) place(k int, id storage.ReplicaID, join bool) {
	c.t.Helper()
	n := c.nodes[k]
	c.ids[k] = id
	n.toys[0] = newToy(0, n.state)
	add := n.engine.AddGroup
	if join {
		add = n.engine.JoinGroup
	}
	if err := add(0, id, n.toys[0]); err != nil {
		c.t.Fatal(err)
	}
}

// close stops a node and forgets it.
func (c *cell) close(k int) vfs.FS {
	c.mesh.attach(k, nil)
	c.nodes[k].close()
	c.lastOf[k] = c.nodes[k].engine.Status(0).Last
	fs := c.nodes[k].fs
	delete(c.nodes, k)
	return fs
}

// leading is the node that leads and takes proposals, 0 if there is none.
func (c *cell) leading() (k int, term uint64) {
	for i, n := range c.nodes {
		if s := n.engine.Status(0); s.Leads && n.toys[0].leading() == s.Term && s.Term > term {
			k, term = i, s.Term
		}
	}
	return k, term
}

// leader waits for one.
func (c *cell) leader() (k int, term uint64) {
	c.t.Helper()
	eventually(c.t, "a leader", func() bool {
		k, term = c.leading()
		return k != 0
	})
	return k, term
}

// propose proposes until it is acknowledged, and notes what was.
func (c *cell) propose(size int) uint64 {
	c.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		k, term := c.leader()
		if index, err := c.try(k, term, size); err == nil {
			return index
		}
	}
	c.t.Fatal("nothing is acknowledged")
	return 0
}

// try proposes once.
func (c *cell) try(k int, term uint64, size int) (uint64, error) {
	c.mu.Lock()
	c.stamp++
	stamp := c.stamp
	c.mu.Unlock()
	data := packet(8+size, byte(stamp))
	binary.BigEndian.PutUint64(data[envelope.Size:], stamp)
	n := c.nodes[k]
	a := n.wait(n.propose(0, term, data))
	if a.err != nil {
		return 0, a.err
	}
	c.mu.Lock()
	c.acked[a.index] = stamp
	c.mu.Unlock()
	return a.index, nil
}

// change changes the replicas, as raft's tests write it, until it is done.
func (c *cell) change(what string) {
	c.t.Helper()
	eventually(c.t, "change "+what, func() bool {
		k, term := c.leader()
		changes, err := pb.ConfChangesFromString(what)
		if err != nil {
			c.t.Fatal(err)
		}
		out := make(chan error, 2)
		c.nodes[k].engine.ProposeConf(0, term, &pb.ConfChangeV2{Changes: changes}, func(err error) { out <- err })
		select {
		case err = <-out:
		case <-time.After(patience):
			c.t.Fatal("no answer")
		}
		return err == nil
	})
}

// members waits until node k sees such replicas.
func (c *cell) members(k int, want string) {
	c.t.Helper()
	defer func() {
		for i, n := range c.nodes {
			if c.t.Failed() {
				c.t.Logf("node %d: %+v", i, n.engine.Status(0))
			}
		}
	}()
	eventually(c.t, fmt.Sprintf("node %d: %s", k, want), func() bool {
		return c.nodes[k].engine.Status(0).Conf.String() == want
	})
}

// trio makes voters of three nodes.
func (c *cell) trio() *cell {
	c.t.Helper()
	c.leader()
	c.open(2, vfs.NewCrashableMem(), 22, true)
	c.open(3, vfs.NewCrashableMem(), 33, true)
	c.change("l22 l33")
	c.change("v22 v33")
	for k := range c.nodes {
		c.members(k, "voters [11 22 33]")
	}
	return c
}

// agree waits until all nodes have applied the same, and compares it.
func (c *cell) agree() {
	c.t.Helper()
	c.propose(1)
	eventually(c.t, "all apply the same", func() bool {
		k, _ := c.leading()
		if k == 0 {
			return false
		}
		want := c.nodes[k].engine.Status(0)
		for _, n := range c.nodes {
			if s := n.engine.Status(0); s.Err != nil {
				c.t.Fatalf("%+v", s)
			} else if s.Applied != want.Commit {
				return false
			}
		}
		return true
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, n := range c.nodes {
		toy := n.toys[0]
		for index, stamp := range c.acked {
			v, err := n.state.Get(toy.key('e', index))
			if err != nil || binary.BigEndian.Uint64(v[20:]) != stamp {
				c.t.Fatalf("node %d lacks entry %d: %v", k, index, err)
			}
			if err := toy.checkAny(n.engine, index); err != nil {
				c.t.Fatalf("node %d: %v", k, err)
			}
		}
		c.sameLog(k, n)
		if got, want := c.dump(n), c.dump(c.nodes[first(c.nodes)]); got != want {
			c.t.Fatalf("node %d differs:\n%s\nfrom\n%s", k, got, want)
		}
	}
}

// sameLog compares a node's log with the first one's, where both have one.
func (c *cell) sameLog(k int, n *node) {
	other := c.nodes[first(c.nodes)]
	a, b := n.engine.Status(0), other.engine.Status(0)
	for i := max(a.First, b.First); i <= min(a.Last, b.Last); i++ {
		got, err := n.log.Term(0, i)
		want, err2 := other.log.Term(0, i)
		if errors.Is(err, storage.ErrCompacted) || errors.Is(err2, storage.ErrCompacted) {
			continue // cut off since then
		}
		if err != nil || err2 != nil || got != want {
			c.t.Fatalf("node %d has entry %d of term %d, another one of %d: %v %v", k, i, got, want, err, err2)
		}
	}
}

func first(nodes map[int]*node) int {
	k := 10
	for i := range nodes {
		k = min(k, i)
	}
	return k
}

// dump is the replicated part of a node's state: all but the spill.
func (c *cell) dump(n *node) string {
	lower, upper := n.toys[0].KeyRange()
	var b strings.Builder
	err := n.state.Scan(lower, upper, func(k, v []byte) bool {
		if k[4] != 'p' && k[4] != 's' {
			fmt.Fprintf(&b, "%x=%x\n", k, v)
		}
		return true
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return b.String()
}

// load proposes all the time, until the returned function is called.
func (c *cell) load(size int) (stop func()) {
	quit := make(chan struct{})
	var wg sync.WaitGroup
	nodes := map[int]*node{} // those of now: others may come and go
	for k, n := range c.nodes {
		nodes[k] = n
	}
	wg.Go(func() {
		side := &cell{t: c.t, nodes: nodes, acked: map[uint64]uint64{}, stamp: 1 << 32}
		for {
			select {
			case <-quit:
				c.mu.Lock()
				for i, s := range side.acked {
					c.acked[i] = s
				}
				c.mu.Unlock()
				return
			default:
			}
			if k, term := side.leading(); k != 0 {
				if _, err := side.try(k, term, size); err != nil && !retriable(err) {
					c.t.Error(err)
					return
				}
			}
		}
	})
	return func() { close(quit); wg.Wait() }
}

func retriable(err error) bool {
	for _, is := range []error{cluster.ErrUnknown, cluster.ErrNotLeader, cluster.ErrDropped, cluster.ErrStopped} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}
