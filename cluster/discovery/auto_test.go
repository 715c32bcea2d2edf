package discovery

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

type place struct {
	*testing.T
	home *Home
}

func newPlace(t *testing.T) place {
	t.Helper()
	h, err := OpenHome(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return place{t, h}
}

// runs writes the entry of a node that answers, in this process.
func (p place) runs(n int, cluster meta.ClusterID) Entry {
	p.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { _ = l.Close() })
	e := Entry{Cluster: "c", NodeID: nodeID(n).String(), DataDir: p.TempDir(), Gossip: l.Addr().String()}
	if !cluster.IsZero() {
		e.ClusterID = cluster.String()
	}
	p.write(e)
	return e
}

func (p place) write(e Entry) {
	p.Helper()
	if err := p.home.Write(e); err != nil {
		p.Fatal(err)
	}
}

// decides gives up at the first look that says to wait.
func (p place) decides(self Self) (*Decision, error) {
	ctx, cancel := context.WithCancel(p.Context())
	defer cancel()
	p.home.wait = cancel
	d, err := p.home.Decide(ctx, "c", self)
	if err == nil {
		p.Cleanup(func() { _ = d.Done(nil) })
	}
	return d, err
}

var self = Self{Node: nodeID(9), DataDir: "/data"}

func TestDecide(t *testing.T) {
	red, blue := meta.ClusterID{1}, meta.ClusterID{2}
	old := self
	old.Cluster = red
	for name, c := range map[string]struct {
		made   []meta.ClusterID
		self   Self
		choice Choice
		nodes  int
		err    error
	}{
		"nobody":                     {nil, self, Bootstrap, 0, nil},
		"one that has no cluster":    {[]meta.ClusterID{{}}, self, Bootstrap, 0, nil},
		"a cluster":                  {[]meta.ClusterID{red, {}, red}, self, Join, 2, nil},
		"two clusters":               {[]meta.ClusterID{red, blue}, self, 0, 0, ErrSeveral},
		"own data, nobody":           {nil, old, Resume, 0, nil},
		"own data, its cluster":      {[]meta.ClusterID{red}, old, Resume, 1, nil},
		"own data, both":             {[]meta.ClusterID{red, blue}, old, Resume, 1, nil},
		"own data, the other alone":  {[]meta.ClusterID{blue}, old, 0, 0, ErrOtherCluster},
		"own data, one without":      {[]meta.ClusterID{{}}, old, Resume, 0, nil},
		"own id in a running copy":   {[]meta.ClusterID{8: red}, self, 0, 0, ErrCopied},
		"own data, in use by a copy": {[]meta.ClusterID{8: red}, old, 0, 0, ErrCopied},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			for i, id := range c.made {
				if len(c.made) < 9 || i == 8 {
					p.runs(i, id)
				}
			}
			s := c.self
			if len(c.made) == 9 {
				s.Node = nodeID(8)
			}
			d, err := p.decides(s)
			if !errors.Is(err, c.err) || err == nil && (d.Choice != c.choice || len(d.Nodes) != c.nodes || len(d.Gossip()) != c.nodes) {
				t.Fatalf("%+v, %v", d, err)
			}
			if err != nil && !strings.Contains(err.Error(), "--") {
				t.Errorf("no remedy in %v", err)
			}
		})
	}
}

func TestOneIsFirstAndGivesItBack(t *testing.T) {
	p := newPlace(t)
	a, err := p.decides(self)
	if err != nil || a.Choice != Bootstrap {
		t.Fatal(a, err)
	}
	other := Self{Node: nodeID(1), DataDir: "/other"}
	if d, err := p.decides(other); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "making the cluster") {
		t.Fatalf("a second one: %v %v", d, err)
	}
	if d, err := p.home.Decide(t.Context(), "another name", other); err != nil || d.Choice != Bootstrap || d.Done(nil) != nil {
		t.Fatalf("another cluster name: %v %v", d, err)
	}
	if err := a.Done(&Entry{NodeID: nodeID(9).String(), Cluster: "c"}); err == nil {
		t.Fatal("a cluster without an id was announced")
	}
	b, err := p.decides(other)
	if err != nil || b.Choice != Bootstrap {
		t.Fatal("after a failed bootstrap:", b, err)
	}
	for range 2 {
		if err := b.Done(nil); err != nil {
			t.Fatal(err)
		}
	}
}

// Between the look that found nobody and the lock, another node may have made
// the cluster and given the lock back.
func TestMadeBetweenLookAndLock(t *testing.T) {
	p := newPlace(t)
	p.home.beforeLock = func() {
		p.home.beforeLock = nil
		p.runs(1, meta.ClusterID{1})
	}
	if d, err := p.decides(self); err != nil || d.Choice != Join || len(d.Nodes) != 1 {
		t.Fatal(d, err)
	}
	if l, err := storage.LockDir(nil, p.home.first("c")); err != nil || l.Close() != nil {
		t.Fatal("the lock was kept:", err)
	}
}

// Entries of nodes that are gone do no harm: no process, or a process id that
// passed to a program which has neither the port nor the data folder.
func TestStaleEntries(t *testing.T) {
	p := newPlace(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	_ = l.Close()
	data := t.TempDir()
	p.write(Entry{Cluster: "c", NodeID: nodeID(1).String(), ClusterID: meta.ClusterID{1}.String(), DataDir: data, Gossip: closed})
	path := filepath.Join(p.home.nodes("c"), nodeID(2).String()+entrySuffix)
	gone := `{"pid": 2147483600, "host": "` + p.home.host + `", "cluster": "c", "cluster_id": "` + meta.ClusterID{1}.String() + `", "gossip": "127.0.0.1:1"}`
	for name, text := range map[string]string{path: gone, filepath.Join(p.home.nodes("c"), "broken.json"): "{"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := p.decides(self); err != nil || d.Choice != Bootstrap {
		t.Fatal(d, err)
	}
	if Exists(path) {
		t.Error("the entry of a process that is gone is still there")
	}
}

// A node that holds its data folder and does not answer is neither joined, nor is
// a second cluster made beside it.
func TestSilentNode(t *testing.T) {
	p := newPlace(t)
	e := p.runs(1, meta.ClusterID{1})
	lock, err := storage.LockDir(nil, e.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	e.Gossip = "127.0.0.1:1"
	p.write(e)
	if d, err := p.decides(self); !errors.Is(err, errSilent) || !strings.Contains(err.Error(), e.DataDir) {
		t.Fatal(d, err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err := p.decides(self); err != nil || d.Choice != Bootstrap {
		t.Fatal(d, err)
	}
}

func TestRemoveIsForOnesOwn(t *testing.T) {
	p := newPlace(t)
	e := p.runs(1, meta.ClusterID{1})
	if all, err := p.home.Entries(t.Context(), "c"); err != nil || len(all) != 1 || all[0].PID != os.Getpid() {
		t.Fatal(all, err)
	}
	if !p.home.Serves(strings.Replace(e.Gossip, "127.0.0.1", "localhost", 1)) || p.home.Serves("127.0.0.1:1") {
		t.Error("Serves is wrong")
	}
	id, _ := identity.ParseNodeID(e.NodeID)
	path := filepath.Join(p.home.nodes("c"), e.NodeID+entrySuffix)
	mine, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	theirs := strings.Replace(string(mine), `"host": "`, `"host": "not-`, 1)
	if err := os.WriteFile(path, []byte(theirs), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.home.Remove("c", id); err != nil || !Exists(path) {
		t.Fatal("another one's entry was removed", err)
	}
	if err := os.WriteFile(path, mine, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.home.Remove("c", id); err != nil || Exists(path) {
			t.Fatal("still there", err)
		}
	}
}

func TestHomeIsPrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenHome(dir); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Fatalf("a folder that all may write: %v", err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	h, err := OpenHome("")
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" && !strings.HasPrefix(h.dir, os.Getenv("XDG_CACHE_HOME")) {
		t.Errorf("not in the user's cache folder: %s", h.dir)
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	t.Setenv("TMPDIR", t.TempDir())
	if got := usualPlace(); !strings.Contains(got, "waystation") {
		t.Errorf("without a home: %s", got)
	}
}
