package cluster_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/storage"
)

// moments is a state store that says when a step of an install begins or ends.
type moments struct {
	*storage.State
	at func(moment string)
}

func (m *moments) NewStage(g storage.GroupID) (*storage.Stage, error) {
	m.at("before the staging")
	return m.State.NewStage(g)
}

func (m *moments) Install(g storage.GroupID, lower, upper []byte) error {
	m.at("behind the marker")
	err := m.State.Install(g, lower, upper)
	m.at("behind the state")
	return err
}

// A crash between any two steps of an install, with any part of what was not
// synced, leaves a replica that has either nothing of it or all of it. It still
// has what it acknowledged before, and goes on in the cell.
func TestCrashDuringInstall(t *testing.T) {
	for _, moment := range []string{"before the staging", "behind the marker", "behind the state", "behind the log", "behind the answer"} {
		for _, stays := range []int{0, 50, 100} {
			t.Run(fmt.Sprintf("%s, %d percent of what was not synced stays", moment, stays), func(t *testing.T) {
				crashInstall(t, moment, stays)
			})
		}
	}
}

func crashInstall(t *testing.T, moment string, stays int) {
	c := newCell(t, smallLogs, func(cfg *cluster.Config) { cfg.HoldBytes = 8 << 10 }).trio()
	for range 20 {
		c.propose(500)
	}
	c.agree()
	disk := c.close(3).(*vfs.MemFS)
	c.outrun(3)

	crashed := make(chan vfs.FS, 1)
	at := func(now string) {
		if now != moment || len(crashed) > 0 {
			return
		}
		c.mesh.isolate(3, true) // the others hear of nothing that comes after
		crashed <- disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: stays, RNG: rng(uint64(stays))})
	}
	n := openStores(t, disk, append(c.changes, func(cfg *cluster.Config) {
		cfg.Transport = port{c.mesh, 3}
		cfg.State = &moments{cfg.State.(*storage.State), at}
	})...)
	n.toys[0] = newToy(0, n.state)
	n.toys[0].installed = func() { at("behind the log") }
	if err := n.engine.AddGroup(0, 33, n.toys[0]); err != nil {
		t.Fatal(err)
	}
	before := n.engine.Status(0)
	c.mesh.attach(3, n.engine)
	n.engine.Start()
	if moment == "behind the answer" {
		eventually(t, "the snapshot is installed", func() bool { return n.engine.Status(0).Applied > before.Last })
		at(moment)
	}
	var fs vfs.FS
	eventually(t, "the crash", func() bool {
		select {
		case fs = <-crashed:
			return true
		default:
			return false
		}
	})
	c.mesh.attach(3, nil)
	n.close()

	n = openStores(t, fs, append(c.changes, func(cfg *cluster.Config) { cfg.Transport = port{c.mesh, 3} })...)
	n.toys[0] = newToy(0, n.state)
	if err := n.engine.AddGroup(0, 33, n.toys[0]); err != nil {
		t.Fatal(err)
	}
	after := n.engine.Status(0)
	whole := moment != "before the staging" && moment != "behind the marker"
	if installed := after.First > before.Last+1; installed != whole {
		t.Errorf("installed %t, want %t: %+v, was %+v", installed, whole, after, before)
	}
	if after.Last < before.Last || after.Commit < before.Commit {
		t.Errorf("%+v, was %+v", after, before)
	}
	c.mesh.isolate(3, false)
	c.mesh.attach(3, n.engine)
	n.engine.Start()
	c.nodes[3] = n
	c.agree()
}

// outrun goes on until the others have cut off what node k lacks.
func (c *cell) outrun(k int) {
	c.t.Helper()
	last := c.lastOf[k]
	eventually(c.t, "the log is cut", func() bool {
		c.propose(1000)
		for _, n := range c.nodes {
			if n.engine.Status(0).First <= last+1 {
				return false
			}
		}
		return true
	})
}

// A replica that was down for longer than the log is held for it comes back by a
// snapshot, while the load goes on over a net that loses messages.
func TestDownForLongerThanTheHold(t *testing.T) {
	c := newCell(t, smallLogs, func(cfg *cluster.Config) { cfg.HoldBytes = 8 << 10 }).trio()
	c.mesh.loses(true)
	for range 3 {
		c.propose(100)
		c.agree()
		fs := c.close(3)
		c.outrun(3)
		stop := c.load(1000)
		n := c.open(3, fs, 33, false)
		eventually(t, "node 3 is back", func() bool {
			k, _ := c.leader()
			return n.engine.Status(0).Applied+5 > c.nodes[k].engine.Status(0).Applied
		})
		stop()
		c.agree()
		if s := n.engine.Status(0); s.First <= c.lastOf[3]+1 {
			t.Fatalf("came back without a snapshot: %+v", s)
		}
	}
}

// A replica that is away for a little while is waited for, by all the others:
// whoever leads then can bring it up from the log.
func TestHeldForWhoIsAway(t *testing.T) {
	c := newCell(t, smallLogs, func(cfg *cluster.Config) {
		cfg.GroupLogBytes, cfg.TotalLogBytes, cfg.HoldBytes = 64<<10, 256<<10, 64<<10
	}).trio()
	c.agree()
	fs := c.close(3)
	for range 30 {
		c.propose(1000)
	}
	for k, n := range c.nodes {
		if s := n.engine.Status(0); s.First > c.lastOf[3]+1 {
			t.Errorf("node %d cut off what is lacked: %+v", k, s)
		}
	}
	n := c.open(3, fs, 33, false)
	first := n.engine.Status(0).First
	c.agree()
	if s := n.engine.Status(0); s.First > c.lastOf[3]+1 && first <= c.lastOf[3] {
		t.Logf("cut since then: %+v", s)
	}
	// Now nobody holds anything, and followers cut as well.
	eventually(t, "all cut", func() bool {
		c.propose(1000)
		for _, n := range c.nodes {
			if n.engine.Status(0).First <= c.lastOf[3]+1 {
				return false
			}
		}
		return true
	})
	c.agree()
}

// There is no room for a snapshot: it is refused, and comes again.
func TestSnapshotWaitsForRoom(t *testing.T) {
	c := newCell(t, smallLogs)
	c.leader()
	for range 100 {
		c.propose(1000)
	}
	var mu sync.Mutex
	asked, full := 0, true
	n := c.open(2, vfs.NewCrashableMem(), 22, true, func(cfg *cluster.Config) {
		cfg.Room = func(bytes int64) error {
			mu.Lock()
			defer mu.Unlock()
			if asked++; full && bytes > 0 {
				return errors.New("disk is full")
			}
			return nil
		}
	})
	c.change("l22")
	eventually(t, "it asks for room", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return asked > 2
	})
	if s := n.engine.Status(0); s.Applied != 0 || s.Err != nil {
		t.Fatalf("%+v", s)
	}
	mu.Lock()
	full = false
	mu.Unlock()
	c.agree()
}

// The power fails on all nodes at once. What was acknowledged is there.
func TestPowerLossOfAll(t *testing.T) {
	c := newCell(t, smallLogs).trio()
	for round := range uint64(4) {
		stop := c.load(1000)
		for range 50 {
			c.propose(1000)
		}
		r := rng(round)
		c.mu.Lock()
		acked := map[uint64]uint64{}
		for i, s := range c.acked {
			acked[i] = s
		}
		c.mu.Unlock()
		for k := range c.nodes {
			c.mesh.isolate(k, true) // what is said after a disk's last moment is not heard
		}
		disks := map[int]vfs.FS{}
		for k, n := range c.nodes {
			disks[k] = n.fs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
		}
		stop()
		for k := range disks {
			c.close(k)
		}
		c.acked = acked
		for k := range disks {
			c.mesh.isolate(k, false)
		}
		for k, fs := range disks {
			c.open(k, fs, c.ids[k], false)
		}
		c.agree()
	}
}
