package discovery

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/waystation/waystation/cluster/discovery/expect"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

func nodeID(i int) identity.NodeID { return identity.NodeID{byte(i + 1)} }

func open(t *testing.T, fs vfs.FS) *storage.Log {
	t.Helper()
	c := storage.DefaultLogConfig("log")
	c.FS, c.Logger, c.SegmentBytes = fs, slog.New(slog.DiscardHandler), 1<<20
	l, err := storage.OpenLog(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// A promise survives a crash right after it, and is the only one.
func TestPromiseIsDurableAndSingle(t *testing.T) {
	fs := vfs.NewCrashableMem()
	log := open(t, fs)
	if p, err := LoadPromise(log); p != nil || err != nil {
		t.Fatal(p, err)
	}
	one := expect.ProposalOf([]identity.NodeID{nodeID(2), nodeID(0), nodeID(1)})
	two := expect.ProposalOf([]identity.NodeID{nodeID(3), nodeID(0), nodeID(1)})
	if err := SavePromise(log, one); err != nil {
		t.Fatal(err)
	}
	log = open(t, fs.CrashClone(vfs.CrashCloneCfg{}))
	if p, err := LoadPromise(log); err != nil || p == nil || !p.Equal(one) {
		t.Fatal(p, err)
	}
	if err := SavePromise(log, one); err != nil {
		t.Fatal(err)
	}
	if err := SavePromise(log, two); !errors.Is(err, expect.ErrApart) {
		t.Fatal("a second promise:", err)
	}
}

func TestParseClusterID(t *testing.T) {
	for _, s := range []string{"", "zz", "00", "00000000000000000000000000000000", "000000000000000000000000000000011"} {
		if _, err := ParseClusterID(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
	if id, err := ParseClusterID("0a000000000000000000000000000000"); err != nil || id[0] != 10 {
		t.Error(id, err)
	}
}
