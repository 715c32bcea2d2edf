package storage_test

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/storagetest"
)

func newLossy(t *testing.T, fs storage.FS, seed uint64, through int) *storage.LossyFS {
	t.Helper()
	l, err := storage.NewLossyFS(storage.LossyConfig{FS: fs, Dir: "data", Seed: seed, Through: through})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// lossyDisk is a disk below a process that dies: whatever the lossy file system let through is
// there afterwards, to the last byte, and nothing else.
type lossyDisk struct {
	crashDisk
	below *vfs.MemFS
}

func (d *lossyDisk) start(seed uint64) {
	through := []int{0, 20, 100}[seed%3]
	d.fsys = newLossy(d.t, d.below, seed, through)
}

func (d *lossyDisk) Crash(seed uint64) {
	left := d.below.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: newRNG(seed, 5)})
	d.abandon()
	d.below = left
	d.start(seed)
}

func TestLossyConformance(t *testing.T) {
	seed := uint64(0)
	storagetest.Run(t, func(t *testing.T) storagetest.Disk {
		d := &lossyDisk{crashDisk: crashDisk{t: t}, below: vfs.NewCrashableMem()}
		t.Cleanup(d.abandon)
		seed++
		d.start(seed)
		return d
	})
}

func create(t *testing.T, fs storage.FS, name, text string, sync bool) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = io.WriteString(f, text)
	}
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, fs storage.FS, name string) string {
	t.Helper()
	f, err := fs.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return "-"
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func syncFolder(t *testing.T, fs storage.FS, name string) {
	t.Helper()
	d, err := fs.OpenDir(name)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestLossyNames is a script of what happens to files, with what the process sees and what is
// below after each line.
func TestLossyNames(t *testing.T) {
	below := vfs.NewMem()
	if err := below.MkdirAll("data/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	create(t, below, "data/old", "old", false)
	fs := newLossy(t, below, 1, 0)
	check := func(step, sees, isBelow string) {
		t.Helper()
		for _, c := range []struct {
			who  string
			fs   storage.FS
			want string
		}{{"the process", fs, sees}, {"the disk", below, isBelow}} {
			got := ""
			for _, dir := range []string{"data", "data/sub"} {
				names, err := c.fs.List(dir)
				if err != nil {
					t.Fatal(err)
				}
				slices.Sort(names)
				for _, name := range names {
					if name != "sub" && name != ".unsynced" {
						got += strings.TrimPrefix(dir+"/", "data/") + name + "=" + readFile(t, c.fs, dir+"/"+name) + " "
					}
				}
			}
			if got = strings.TrimSpace(got); got != c.want {
				t.Fatalf("%s: %s has %q, want %q", step, c.who, got, c.want)
			}
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check("start", "old=old", "old=old")
	create(t, fs, "data/a", "one", false)
	check("create", "a=one old=old", "old=old")
	syncFolder(t, fs, "data")
	check("name synced, content not", "a=one old=old", "a= old=old")
	create(t, fs, "data/a", "two", true)
	check("replaced, content synced, name not", "a=two old=old", "a= old=old")
	syncFolder(t, fs, "data")
	check("synced", "a=two old=old", "a=two old=old")
	do(fs.Rename("data/a", "data/old"))
	check("renamed over", "old=two", "a=two old=old")
	syncFolder(t, fs, "data")
	check("renamed over, synced", "old=two", "old=two")
	do(fs.Link("data/old", "data/sub/link"))
	do(fs.Remove("data/old"))
	check("moved by a link", "sub/link=two", "old=two")
	syncFolder(t, fs, "data")
	check("moved, only the source synced", "sub/link=two", "")
	syncFolder(t, fs, "data/sub")
	check("moved", "sub/link=two", "sub/link=two")
	do(fs.Rename("data/sub/link", "data/x"))
	do(fs.Rename("data/x", "data/sub/link"))
	check("there and back", "sub/link=two", "sub/link=two")
	syncFolder(t, fs, "data/sub")
	check("there and back, synced", "sub/link=two", "sub/link=two")
	f, err := fs.ReuseForWrite("data/sub/link", "data/sub/reused", vfs.WriteCategoryUnspecified)
	do(err)
	_, err = f.Write([]byte("T"))
	do(err)
	check("reused", "sub/reused=Two", "sub/link=two")
	do(f.Sync())
	check("reused, synced", "sub/reused=Two", "sub/link=Two")
	do(f.Close())
	syncFolder(t, fs, "data/sub")
	check("reused, name synced", "sub/reused=Two", "sub/reused=Two")
	create(t, fs, "data/gone", "never", true)
	do(fs.Remove("data/gone"))
	create(t, fs, "data/sub/y", "y", true)
	do(fs.RemoveAll("data/sub"))
	do(fs.MkdirAll("data/sub", 0o755))
	check("removed", "", "")
	if left, err := below.List("data/.unsynced"); err != nil || len(left) > 0 {
		t.Fatalf("left in the scratch folder: %v, %v", left, err)
	}
	if fs.Held() != 0 {
		t.Fatalf("%d bytes are held for nothing", fs.Held())
	}
}

// TestLossyContent overwrites a file at random and compares what the process reads with a plain
// one; a death leaves of each sector what was synced last or something written since.
func TestLossyContent(t *testing.T) {
	for seed := range uint64(20) {
		r := newRNG(seed, 6)
		below := vfs.NewMem()
		if err := below.MkdirAll("data", 0o755); err != nil {
			t.Fatal(err)
		}
		fs := newLossy(t, below, seed, int(seed%5)*25)
		f, err := fs.OpenReadWrite("data/f", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		syncFolder(t, fs, "data")
		var want, synced []byte
		for range 200 {
			switch r.IntN(10) {
			case 0:
				if err := f.Sync(); err != nil {
					t.Fatal(err)
				}
				if fs.Held() != 0 {
					t.Fatalf("%d bytes are held after a sync", fs.Held())
				}
				synced = slices.Clone(want)
				if got := readFile(t, below, "data/f"); got != string(synced) {
					t.Fatalf("%d bytes below after a sync of %d", len(got), len(synced))
				}
			default:
				off, data := r.IntN(len(want)+5000), make([]byte, 1+r.IntN(9000))
				for i := range data {
					data[i] = byte(r.Uint32())
				}
				if _, err := f.WriteAt(data, int64(off)); err != nil {
					t.Fatal(err)
				}
				if grow := off + len(data) - len(want); grow > 0 {
					want = append(want, make([]byte, grow)...)
				}
				copy(want[off:], data)
			}
			if got := readFile(t, fs, "data/f"); got != string(want) {
				t.Fatal("the process reads something else than it wrote")
			}
		}
		if through := int(seed % 5); through == 0 && readFile(t, below, "data/f") != string(synced) {
			t.Fatal("something that was not synced is below, though nothing is let through")
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got := readFile(t, fs, "data/f"); got != string(want) {
			t.Fatal("what was not synced is gone with the last handle")
		}
	}
}

func TestLossyScratch(t *testing.T) {
	dir := t.TempDir()
	c := storage.LossyConfig{Dir: dir, Seed: 1}
	first, err := storage.NewLossyFS(c)
	if err != nil {
		t.Fatal(err)
	}
	create(t, first, dir+"/lost", "text", true)
	if left, err := os.ReadDir(dir + "/.unsynced"); err != nil || len(left) != 1 {
		t.Fatalf("a synced file without a durable name lies in %v, %v", left, err)
	}
	second, err := storage.NewLossyFS(c)
	if err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, second, dir+"/lost"); got != "-" {
		t.Fatalf("the next process finds %q", got)
	}
	lock, err := storage.LockDir(second, dir)
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir + "/.unsynced")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if text, err := os.ReadFile(dir + "/.unsynced/" + f.Name()); err != nil || string(text) == "text" {
			t.Fatalf("left by the process before: %s, %v", f.Name(), err)
		}
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []storage.LossyConfig{{}, {Dir: "x", Through: 101}, {Dir: "x", Through: -1}} {
		if _, err := storage.NewLossyFS(bad); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}
