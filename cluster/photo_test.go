package cluster_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/storage"
)

// TestPhotosOfOneIndex: photos that three replicas take of themselves at one
// index under load have the same in them.
func TestPhotosOfOneIndex(t *testing.T) {
	c := newCell(t)
	c.trio()
	stop := c.load(64)
	defer stop()
	sums := map[storage.Sum]int{}
	for try := 0; len(sums) == 0; try++ {
		k, _ := c.leader()
		index := c.nodes[k].engine.Status(0).Applied + 200<<try
		shots := map[int]*cluster.Shot{}
		for k, n := range c.nodes {
			s, err := n.engine.ArmPhoto(0, index)
			switch {
			case err == nil:
				shots[k] = s
				defer s.Close()
			case !errors.Is(err, cluster.ErrPassed) || try > 6:
				t.Fatal(err)
			}
		}
		for k, s := range shots {
			if sum := sumOf(t, c.nodes[k], s, index); len(shots) == len(c.nodes) {
				sums[sum]++
			}
		}
	}
	if len(sums) != 1 {
		t.Errorf("%d different states: %v", len(sums), sums)
	}
}

// TestPhotoDuringAnInstall: a replica whose state is just being replaced takes its
// photo when it gets to the index, as any other does that is behind.
func TestPhotoDuringAnInstall(t *testing.T) {
	c := newCell(t, smallLogs, func(cfg *cluster.Config) { cfg.HoldBytes = 8 << 10 }).trio()
	for range 20 {
		c.propose(500)
	}
	c.agree()
	disk := c.close(3)
	c.outrun(3)
	began, end := make(chan struct{}), make(chan struct{})
	at := sync.OnceFunc(func() { close(began); <-end })
	n := openStores(t, disk, append(c.changes, func(cfg *cluster.Config) {
		cfg.Transport = port{c.mesh, 3}
		cfg.State = &moments{cfg.State.(*storage.State), func(moment string) {
			if moment == "behind the marker" {
				at()
			}
		}}
	})...)
	goOn := sync.OnceFunc(func() { close(end) })
	t.Cleanup(goOn)
	n.toys[0] = newToy(0, n.state)
	if err := n.engine.AddGroup(0, 33, n.toys[0]); err != nil {
		t.Fatal(err)
	}
	c.mesh.attach(3, n.engine)
	n.engine.Start()
	select {
	case <-began:
	case <-time.After(patience):
		t.Fatal("no snapshot is installed")
	}
	k, _ := c.leader()
	index := c.nodes[k].engine.Status(0).Applied + 20 // the snapshot is of an earlier one
	s, err := n.engine.ArmPhoto(0, index)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	goOn()
	c.nodes[3] = n
	for c.propose(100) < index {
	}
	sumOf(t, n, s, index)
}

func sumOf(t *testing.T, n *node, s *cluster.Shot, index uint64) storage.Sum {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := s.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	applied, _, err := n.toys[0].AppliedIn(p.State)
	if err != nil || applied != index || p.At.Index != index {
		t.Fatalf("a photo of %d, at %d, for %d: %v", applied, p.At.Index, index, err)
	}
	sum, err := storage.Checksum(ctx, p.State, p.Lower, p.Upper, func(k []byte) bool { return k[4] == 's' || k[4] == 'p' })
	if err != nil || sum.Keys == 0 {
		t.Fatalf("%+v, %v", sum, err)
	}
	return sum
}

// TestPhotoThatCannotBe: it is refused, or ends with its waiter.
func TestPhotoThatCannotBe(t *testing.T) {
	c := newCell(t)
	at := c.propose(8)
	e := c.nodes[1].engine
	if _, err := e.ArmPhoto(7, at); !errors.Is(err, cluster.ErrNoGroup) {
		t.Errorf("without the group: %v", err)
	}
	if _, err := e.ArmPhoto(0, at-1); !errors.Is(err, cluster.ErrPassed) {
		t.Errorf("of an earlier state: %v", err)
	}
	s, err := e.ArmPhoto(0, at+1000)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Wait(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("after its waiter gave up: %v", err)
	}
	s.Close()
	for range 100 { // what was given up takes no room
		s, err := e.ArmPhoto(0, at+1000)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	s, err = e.ArmPhoto(0, e.Status(0).Applied)
	if err != nil {
		t.Fatal(err)
	}
	s.Close() // taken, and nobody came for it: the store would complain at its end
	whole, err := e.WholePhoto(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	toy := c.nodes[1].toys[0]
	if spilled, err := toy.number(whole.State, 's'); err != nil || spilled != whole.At.Index {
		t.Errorf("a whole photo at %d is spilled to %d: %v", whole.At.Index, spilled, err)
	}
}
