package cluster_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/memstore"
)

// openMemory opens a node with one group, 0, over stores in memory.
func openMemory(t *testing.T, log, state *memstore.Store) *node {
	t.Helper()
	n := &node{t: t, toys: map[storage.GroupID]*toy{}, fatal: make(chan error, 8)}
	var err error
	if n.log, err = storage.NewLog(log, quiet()); err != nil {
		t.Fatal(err)
	}
	n.state = storage.NewState(state, quiet())
	cfg := cluster.DefaultConfig()
	cfg.Log, cfg.State, cfg.Logger, cfg.Registerer = n.log, n.state, quiet(), prometheus.NewRegistry()
	cfg.Clock = func() int64 { return time.Now().UnixMilli() }
	cfg.Fatal = func(err error) { n.fatal <- err }
	if n.engine, err = cluster.Open(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	if err := n.add(0); err != nil {
		t.Fatal(err)
	}
	n.engine.Start()
	return n
}

// A damaged entry quarantines the replica that has to apply it: it serves
// nothing, and the node goes on.
func TestDamagedEntryQuarantines(t *testing.T) {
	log, state := memstore.New(), memstore.New()
	n := openMemory(t, log, state)
	term := n.leader(0)
	for i := range 10 {
		n.mustPropose(0, term, packet(10, byte(i)))
	}
	log, state = log.Crash(1), memstore.New() // nothing of the state was flushed
	n.close()

	entry := binary.BigEndian.AppendUint64([]byte{3, 0, 0, 0, 0}, cluster.FirstIndex+5)
	if !log.Damage(binary.BigEndian.AppendUint32(entry, 0)) {
		t.Fatal("there is no such entry")
	}
	n = openMemory(t, log, state)
	eventually(t, "quarantine", func() bool { return errors.Is(n.engine.Status(0).Err, cluster.ErrQuarantined) })
	if s := n.engine.Status(0); !errors.Is(s.Err, storage.ErrCorrupt) || s.Leads || s.Applied >= cluster.FirstIndex+5 {
		t.Fatalf("%+v", s)
	}
	if a := n.wait(n.propose(0, term+1, packet(1, 1))); !errors.Is(a.err, cluster.ErrStopped) {
		t.Fatalf("%+v", a)
	}
	if len(n.fatal) > 0 {
		t.Fatalf("the node ended: %v", <-n.fatal)
	}
}

// What a store finds by itself quarantines too.
func TestDamageFoundByTheStoreQuarantines(t *testing.T) {
	n := openMemory(t, memstore.New(), memstore.New())
	term := n.leader(0)
	if r := n.engine.Ranges(); len(r) != 1 || r[0].Group != 0 || string(r[0].Lower) >= string(r[0].Upper) {
		t.Fatalf("%+v", r)
	}
	n.engine.Damaged(storage.Damage{Group: 7, Err: storage.ErrCorrupt}) // nobody's
	n.mustPropose(0, term, packet(1, 1))
	n.engine.Damaged(storage.Damage{Group: 0, Err: storage.ErrCorrupt})
	if s := n.engine.Status(0); !errors.Is(s.Err, cluster.ErrQuarantined) || s.Leads {
		t.Fatalf("%+v", s)
	}
	if err := n.engine.RemoveGroup(0); err != nil {
		t.Fatal(err)
	}
	if err := n.engine.JoinGroup(0, 200, newToy(0, n.state)); err != nil {
		t.Fatal(err)
	}
	if s := n.engine.Status(0); s.Err != nil || s.Leads || !s.Conf.Empty() {
		t.Fatalf("%+v", s)
	}
}

// A bit that flips in the newest entry of the raft log is found when the log is
// opened: the replica it belongs to is quarantined, and the node goes on with
// the others.
func TestDamagedLogQuarantinesOneGroup(t *testing.T) {
	fs := vfs.NewMem()
	n := openNode(t, fs, 2)
	n.leader(0)
	n.mustPropose(1, n.leader(1), packet(500, 0xab))
	n.close()

	files, err := fs.List("log")
	if err != nil {
		t.Fatal(err)
	}
	flipped := 0
	for _, name := range files {
		if !strings.HasSuffix(name, ".seg") {
			continue
		}
		data, err := fs.UnsafeGetFileDataBuffer("log/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(data, packet(500, 0xab)[200:500]); at >= 0 {
			data[at+50] ^= 8
			flipped++
		}
	}
	if flipped != 1 {
		t.Fatalf("the entry lies in %d files", flipped)
	}
	n = openStores(t, fs)
	if err := n.add(0); err != nil {
		t.Fatal(err)
	}
	if err := n.add(1); !errors.Is(err, cluster.ErrQuarantined) || !errors.Is(err, storage.ErrCorrupt) {
		t.Fatalf("with a damaged log: %v", err)
	}
	n.engine.Start()
	n.mustPropose(0, n.leader(0), packet(10, 1))
	if err := n.engine.RemoveGroup(1); err != nil {
		t.Fatal(err)
	}
	if err := n.engine.JoinGroup(1, 200, newToy(1, n.state)); err != nil {
		t.Fatal(err)
	}
	if len(n.fatal) > 0 {
		t.Fatalf("the node ended: %v", <-n.fatal)
	}
}
