package storage

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const damageEntries = 12

// damageData is short, but for two entries of two chunks: Pebble searches a damaged block for
// the bit that was flipped, in time that grows with the square of its length.
func damageData(index uint64) []byte {
	r := rand.New(rand.NewPCG(index, 9))
	b := make([]byte, int(index)*300)
	if index == 5 || index == 8 {
		b = make([]byte, 40_000)
	}
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func damageConfig(fs FS) LogConfig {
	c := DefaultLogConfig("log")
	c.FS, c.Logger = fs, slog.New(slog.DiscardHandler)
	c.CacheBytes, c.MemTableBytes = 1<<20, 4<<20
	return c
}

// writtenLog returns a disk with a log of damageEntries, in tables or in the write-ahead log,
// as a killed process leaves it, or with power lost after the last sync.
func writtenLog(t *testing.T, flushed bool, end vfs.CrashCloneCfg) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	l, err := OpenLog(damageConfig(fs))
	if err != nil {
		t.Fatal(err)
	}
	for index := uint64(1); index <= damageEntries; index++ {
		b := l.NewBatch()
		b.Append(3, []Entry{{Index: index, Term: 2, Data: damageData(index)}})
		b.SetHardState(3, HardState{Term: 2, Vote: 1, Commit: index})
		if err := b.Commit(true); err != nil {
			t.Fatal(err)
		}
	}
	if flushed {
		if err := l.kv.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	left := fs.CrashClone(end)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return left
}

func killed() vfs.CrashCloneCfg {
	return vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))}
}

// flip turns one bit of a file around, behind everybody's back.
func flip(t *testing.T, fs *vfs.MemFS, path string, bit int) {
	t.Helper()
	data, err := fs.UnsafeGetFileDataBuffer(path)
	if err != nil {
		t.Fatal(err)
	}
	data[bit/8] ^= 1 << (bit % 8)
}

func fileSize(t *testing.T, fs FS, path string) int {
	t.Helper()
	info, err := fs.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Size())
}

// findFile returns the largest file with a suffix.
func findFile(t *testing.T, fs FS, suffix string) string {
	t.Helper()
	files, err := fs.List("log")
	if err != nil {
		t.Fatal(err)
	}
	found, size := "", -1
	for _, f := range files {
		if path := fs.PathJoin("log", f); strings.HasSuffix(f, suffix) && fileSize(t, fs, path) > size {
			found, size = path, fileSize(t, fs, path)
		}
	}
	if found == "" {
		t.Fatalf("no %s file among %v", suffix, files)
	}
	return found
}

// readAll reads a damaged log in every way. It fails if anything is served that was not
// written, or if damage is not called by its name; lost counts what was refused.
func readAll(t *testing.T, fs FS) (lost int, last uint64) {
	t.Helper()
	l, err := OpenLog(damageConfig(fs))
	if err != nil {
		named(t, err, "")
		return damageEntries, 0
	}
	defer func() { _ = l.Close() }()
	_, last = l.Bounds(3)
	for index := uint64(1); index <= last; index++ {
		want := damageData(index)
		es, err := l.Entries(3, index, index+1, 0)
		if err != nil {
			named(t, err, fmt.Sprintf("group 3 index %d", index))
			lost++
		} else if es[0].Term != 2 || !bytes.Equal(es[0].Data, want) {
			t.Fatalf("entry %d is served damaged", index)
		}
		off := len(want) * 2 / 3
		if part, err := l.ReadAt(3, index, off, len(want)-off, nil); err != nil {
			named(t, err, fmt.Sprintf("group 3 index %d", index))
		} else if !bytes.Equal(part, want[off:]) {
			t.Fatalf("a part of entry %d is served damaged", index)
		}
	}
	if h, err := l.HardState(3); err != nil {
		named(t, err, "group 3 hard state")
		lost++
	} else if h != (HardState{Term: 2, Vote: 1, Commit: last}) {
		t.Fatalf("hard state served: %+v, with a log that ends at %d", h, last)
	}
	return lost, last
}

// named wants a damage to be reported as such, with the record that it hit.
func named(t *testing.T, err error, what string) {
	t.Helper()
	var c *CorruptError
	if !errors.Is(err, ErrCorrupt) || !errors.As(err, &c) || !strings.Contains(err.Error(), what) {
		t.Fatalf("damage is reported as %v, want ErrCorrupt with %q", err, what)
	}
}

func TestFlippedBitInTable(t *testing.T) {
	base := writtenLog(t, true, killed())
	for _, suffix := range []string{".sst", ".blob"} {
		t.Run(suffix, func(t *testing.T) { flipInTable(t, base, suffix) })
	}
}

func flipInTable(t *testing.T, base *vfs.MemFS, suffix string) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 5))
	found, flips := 0, 40
	if suffix == ".blob" {
		flips = 12 // each costs Pebble's search for the bit
	}
	for range flips {
		fs := base.CrashClone(vfs.CrashCloneCfg{})
		path := findFile(t, fs, suffix)
		flip(t, fs, path, r.IntN(8*fileSize(t, fs, path)))
		lost, last := readAll(t, fs)
		if lost == 0 && last != damageEntries {
			t.Fatalf("the log ends at %d instead of %d, and nothing is reported", last, damageEntries)
		}
		if lost > 0 {
			found++
		}
	}
	if found < flips*5/8 {
		t.Fatalf("only %d of %d flipped bits were noticed: the rest is more than padding", found, flips)
	}
}

// TestFlippedBitInWAL damages the newest write-ahead log of a process that was killed. What was
// acknowledged must be there, or the start must be refused, to the last batch.
func TestFlippedBitInWAL(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 5))
	base := writtenLog(t, false, killed())
	refused := 0
	for range 60 {
		fs := base.CrashClone(vfs.CrashCloneCfg{})
		path := findFile(t, fs, ".log")
		flip(t, fs, path, r.IntN(8*fileSize(t, fs, path)))
		lost, last := readAll(t, fs)
		if lost == 0 && last != damageEntries {
			t.Fatalf("the log ends at %d instead of %d, and nothing is reported", last, damageEntries)
		}
		if lost > 0 {
			refused++
		}
	}
	if refused < 50 {
		t.Fatalf("only %d of 60 flipped bits were noticed", refused)
	}
}

// TestFlippedBitInWALWithoutWitness does the same where the witness was lost with the power:
// the log may then look torn and end early, but nothing wrong is served.
func TestFlippedBitInWALWithoutWitness(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	base := writtenLog(t, false, vfs.CrashCloneCfg{})
	for range 30 {
		fs := base.CrashClone(vfs.CrashCloneCfg{})
		path := findFile(t, fs, ".log")
		flip(t, fs, path, r.IntN(8*fileSize(t, fs, path)))
		readAll(t, fs)
	}
}

// TestWitnessTorn is a witness that itself was damaged or torn: it says nothing then.
func TestWitnessTorn(t *testing.T) {
	for bit := range 8 * witnessSize {
		fs := writtenLog(t, false, killed())
		flip(t, fs, "log/"+witnessFile, bit)
		if lost, last := readAll(t, fs); lost != 0 || last != damageEntries {
			t.Fatalf("bit %d of the witness: lost %d, the log ends at %d", bit, lost, last)
		}
	}
}

// TestFlippedBitInValue damages a record above Pebble's own checksums, as memory does.
func TestFlippedBitInValue(t *testing.T) {
	l, err := OpenLog(damageConfig(vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	b := l.NewBatch()
	b.Append(3, []Entry{{Index: 1, Term: 2, Data: damageData(8)}})
	b.SetHardState(3, HardState{Term: 2})
	b.PutNode([]byte("id"), []byte("value"))
	b.PutReplica(ReplicaMeta{Group: 3, Replica: 1, State: ReplicaLive})
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key  []byte
		what string
		read func() error
	}{
		{entryKey(3, 1, 0), "group 3 index 1 chunk 0", func() error { _, err := l.Entries(3, 1, 2, 0); return err }},
		{entryKey(3, 1, 1), "group 3 index 1 chunk 1", func() error { _, err := l.ReadAt(3, 1, 39_000, 1, nil); return err }},
		{groupKey(3, fieldHardState), "group 3 hard state", func() error { _, err := l.HardState(3); return err }},
		{groupKey(3, fieldReplica), "group 3 replica record", func() error { _, err := l.Replicas(); return err }},
		{nodeKey([]byte("id")), `node record "id"`, func() error { _, err := l.Node([]byte("id")); return err }},
	} {
		if err := c.read(); err != nil {
			t.Fatal(err)
		}
		var whole []byte
		hurt(t, l, c.key, func(v []byte) []byte { whole = bytes.Clone(v); v[len(v)-1] ^= 1; return v })
		named(t, c.read(), c.what)
		hurt(t, l, c.key, func(v []byte) []byte { return v[:2] })
		named(t, c.read(), c.what)
		hurt(t, l, c.key, func([]byte) []byte { return whole })
	}
	lost := l.kv.NewBatch(0)
	lost.Delete(entryKey(3, 1, 1))
	if err := lost.Commit(true); err != nil {
		t.Fatal(err)
	}
	_, err = l.ReadAt(3, 1, 39_000, 1, nil)
	named(t, err, "group 3 index 1 chunk 1")
}

func hurt(t *testing.T, l *Log, key []byte, change func([]byte) []byte) {
	t.Helper()
	v, closer, err := l.kv.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	damaged := change(bytes.Clone(v))
	if err := closer.Close(); err != nil {
		t.Fatal(err)
	}
	b := l.kv.NewBatch(0)
	k, dst := b.Set(len(key), len(damaged))
	copy(k, key)
	copy(dst, damaged)
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
}

// TestFlippedBitsEverywhereInLog flips one bit in every 997th byte of every file of a log, closer
// in small ones: manifest, options, marker, witness.
func TestFlippedBitsEverywhereInLog(t *testing.T) {
	for _, flushed := range []bool{false, true} {
		base := writtenLog(t, flushed, killed())
		files, err := base.List("log")
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, name := range files {
			path := "log/" + name
			size := fileSize(t, base, path)
			step := max(1, min(997, size/37))
			switch {
			case name == formatFile:
				continue // see TestFormatRefused
			case strings.HasSuffix(name, ".blob"), strings.HasSuffix(name, ".log"):
				step = max(1, size/9) // see TestFlippedBitInTable and TestFlippedBitInWAL
			}
			for at := 0; at < size; at += step {
				fs := base.CrashClone(killed())
				flip(t, fs, path, 8*at+at%8)
				lost, last := readAll(t, fs)
				if lost == 0 && last != damageEntries {
					t.Errorf("flushed %v, %s byte %d: the log ends at %d instead of %d, and nobody says so",
						flushed, name, at, last, damageEntries)
				}
				if lost > 0 {
					found++
				}
			}
		}
		if found < 50 {
			t.Errorf("flushed %v: only %d flipped bits were noticed", flushed, found)
		}
	}
}

// TestFlippedBitInBlobEnd damages the end of a blob file, which Pebble would panic about.
func TestFlippedBitInBlobEnd(t *testing.T) {
	base := writtenLog(t, true, killed())
	for at := range 38 {
		fs := base.CrashClone(killed())
		path := findFile(t, fs, ".blob")
		flip(t, fs, path, 8*(fileSize(t, fs, path)-1-at)+at%8)
		if lost, last := readAll(t, fs); lost == 0 || last != 0 && last != damageEntries {
			t.Errorf("byte %d from the end: lost %d, the log ends at %d", at, lost, last)
		}
	}
}
