package discovery

import (
	"bytes"
	"encoding/hex"
	"errors"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

func open(t *testing.T, fs vfs.FS) *storage.Log {
	t.Helper()
	c := storage.DefaultLogConfig("log")
	c.FS, c.Logger, c.CacheBytes, c.MemTableBytes = fs, slog.New(slog.DiscardHandler), 1<<20, 1<<20
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
	one := ProposalOf([]identity.NodeID{nodeID(2), nodeID(0), nodeID(1)})
	two := ProposalOf([]identity.NodeID{nodeID(3), nodeID(0), nodeID(1)})
	if err := SavePromise(log, one); err != nil {
		t.Fatal(err)
	}
	log = open(t, fs.CrashClone(vfs.CrashCloneCfg{}))
	if p, err := LoadPromise(log); err != nil || p == nil || !p.equal(one) {
		t.Fatal(p, err)
	}
	if err := SavePromise(log, one); err != nil {
		t.Fatal(err)
	}
	if err := SavePromise(log, two); !errors.Is(err, ErrApart) {
		t.Fatal("a second promise:", err)
	}
}

func TestGoldenPromise(t *testing.T) {
	p := ProposalOf([]identity.NodeID{{0: 2}, {0: 1}})
	const want = "014b5f56466f1b7e481fbeaf956fd198e4" + "02" + "01000000000000000000000000000000" + "02000000000000000000000000000000"
	if got := hex.EncodeToString(p.append(nil)); got != want {
		t.Fatalf("record %s, want %s", got, want)
	}
	m := Message{Kind: Promised, From: identity.NodeID{0: 1}, To: identity.NodeID{0: 2}, Proposal: p}
	back, err := ParseMessage(m.Encode())
	if err != nil || back.Kind != m.Kind || back.From != m.From || back.To != m.To || !back.Proposal.equal(p) {
		t.Fatal(back, err)
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add(Message{Kind: Propose, From: nodeID(0), To: nodeID(1), Proposal: ProposalOf([]identity.NodeID{nodeID(0), nodeID(1)})}.Encode())
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMessage(b)
		if err != nil && !errors.Is(err, ErrRecord) {
			t.Fatal(err)
		}
		if err == nil && !bytes.Equal(m.Encode(), b) {
			t.Fatalf("%x came back as %x", b, m.Encode())
		}
	})
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
