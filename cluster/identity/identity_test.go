package identity

import (
	"bytes"
	"encoding/hex"
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/waystation/waystation/storage"
)

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

// A crash right after Start must not give the same counter a second time.
func TestStartCountsThroughCrashes(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	fs := vfs.NewCrashableMem()
	var first Identity
	lives := map[uint64]bool{}
	for boot := uint64(1); boot <= 4; boot++ {
		id, err := Start(open(t, fs), random)
		if err != nil {
			t.Fatal(err)
		}
		if boot == 1 {
			first = id
		}
		if id.Node != first.Node || id.Node.IsZero() || id.Boot != boot || lives[id.Life] {
			t.Fatalf("start %d: %+v, first %+v", boot, id, first)
		}
		lives[id.Life] = true
		fs = fs.CrashClone(vfs.CrashCloneCfg{})
	}
}

func TestFoldersDiffer(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	a, err := Start(open(t, vfs.NewMem()), random)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Start(open(t, vfs.NewMem()), random)
	if err != nil || a.Node == b.Node {
		t.Fatalf("%v %v: %v", a.Node, b.Node, err)
	}
}

func TestGoldenRecord(t *testing.T) {
	i := Identity{Node: NodeID{0xaa, 15: 0xbb}, Boot: 7, Life: 0x0102}
	const want = "01aa0000000000000000000000000000bb00000000000000070000000000000102"
	if got := hex.EncodeToString(i.append(nil)); got != want {
		t.Fatalf("record %s, want %s", got, want)
	}
}

func TestBadRecords(t *testing.T) {
	good := Identity{Node: NodeID{1}, Boot: 1}.append(nil)
	for name, b := range map[string][]byte{
		"empty": {}, "short": good[:10], "long": append(bytes.Clone(good), 0),
		"newer": append([]byte{2}, good[1:]...), "zero": append([]byte{1}, make([]byte, recordSize-1)...),
	} {
		if _, err := parse(b); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseNodeID(t *testing.T) {
	n := NodeID{1, 2, 3}
	if got, err := ParseNodeID(n.String()); err != nil || got != n {
		t.Fatalf("%v %v", got, err)
	}
	for _, s := range []string{"", "zz", "00", NodeID{}.String(), n.String() + "00"} {
		if _, err := ParseNodeID(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Identity{Node: NodeID{1}, Boot: 1, Life: 2}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := parse(b)
		if err == nil && !bytes.Equal(i.append(nil), b) {
			t.Fatalf("%x came back as %x", b, i.append(nil))
		}
	})
}
