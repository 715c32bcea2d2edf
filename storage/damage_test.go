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

// damageData has one chunk, but for two entries.
func damageData(index uint64) []byte {
	r := rand.New(rand.NewPCG(index, 9))
	b := make([]byte, int(index)*70)
	if index == 5 || index == 8 {
		b = make([]byte, chunkData+300)
	}
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func damageConfig(fs FS) LogConfig {
	c := DefaultLogConfig("log")
	c.FS, c.Logger, c.SegmentBytes = fs, slog.New(slog.DiscardHandler), 64<<10
	FixNonces(&c, 4)
	return c
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

// named wants a damage to be reported as such, with the record that it hit.
func named(t *testing.T, err error, what string) {
	t.Helper()
	var c *CorruptError
	if !errors.Is(err, ErrCorrupt) || !errors.As(err, &c) || !strings.Contains(err.Error(), what) {
		t.Fatalf("damage is reported as %v, want ErrCorrupt with %q", err, what)
	}
}

// writtenLog returns a disk with a log of two groups, 3 with damageEntries and 4 with one of each, as
// a killed process leaves it, or with power lost after the last sync. Sealed, the entries lie in a
// segment behind which there is another one.
func writtenLog(t *testing.T, sealed bool, end vfs.CrashCloneCfg) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	l, err := OpenLog(damageConfig(fs))
	if err != nil {
		t.Fatal(err)
	}
	for index := uint64(1); index <= damageEntries; index++ {
		b := l.NewBatch()
		if index == 1 {
			b.PutNode([]byte("id"), []byte("who"))
			b.PutReplica(ReplicaMeta{Group: 3, Replica: 7, State: ReplicaLive})
			b.PutReplica(ReplicaMeta{Group: 4, Replica: 8, State: ReplicaLive})
		}
		b.Append(3, []Entry{{Index: index, Term: 2, Data: damageData(index)}})
		b.Append(4, []Entry{{Index: index, Term: 2, Data: damageData(index)}})
		b.SetHardState(3, HardState{Term: 2, Vote: 1, Commit: index})
		if err := b.Commit(true); err != nil {
			t.Fatal(err)
		}
	}
	if sealed {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l, err = OpenLog(damageConfig(fs)); err != nil {
			t.Fatal(err)
		}
	}
	left := fs.CrashClone(end)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return left
}

// harm is what reading a damaged log in every way came to.
type harm struct {
	refused  bool             // it does not open
	groups   map[GroupID]bool // that are known to be damaged, from the start on
	unread   map[GroupID]int  // entries that are damaged
	last     [5]uint64
	hard     HardState
	replicas int
}

// whole tells whether nothing is missing and nothing is said.
func (h *harm) whole() bool {
	return !h.refused && len(h.groups) == 0 && len(h.unread) == 0 && h.last[3] == damageEntries && h.last[4] == damageEntries &&
		h.hard == HardState{Term: 2, Vote: 1, Commit: damageEntries} && h.replicas == 2
}

func (h *harm) said() bool { return h.refused || len(h.groups) > 0 || len(h.unread) > 0 }

// readAll reads a damaged log in every way. It fails if anything is served that was not written, or if
// damage is not called by its name.
func readAll(t *testing.T, fs FS) *harm {
	t.Helper()
	h := &harm{groups: map[GroupID]bool{}, unread: map[GroupID]int{}}
	l, err := OpenLog(damageConfig(fs))
	if err != nil {
		if !errors.Is(err, ErrFormat) {
			named(t, err, "")
		}
		h.refused = true
		return h
	}
	defer func() { _ = l.Close() }()
	for g := GroupID(3); g <= 4; g++ {
		if err := l.Damaged(g); err != nil {
			named(t, err, fmt.Sprintf("group %d", g))
			h.groups[g] = true
		}
		_, h.last[g] = l.Bounds(g)
		for index := uint64(1); index <= h.last[g]; index++ {
			h.readEntry(t, l, g, index)
		}
	}
	if h.hard, err = l.HardState(3); err != nil {
		t.Fatal(err)
	}
	all, err := l.Replicas()
	if err != nil {
		t.Fatal(err)
	}
	h.replicas = len(all)
	if id, err := l.Node([]byte("id")); err == nil && string(id) != "who" {
		t.Fatalf("node record served: %q", id)
	}
	return h
}

func (h *harm) readEntry(t *testing.T, l *Log, g GroupID, index uint64) {
	t.Helper()
	want := damageData(index)
	es, err := l.Entries(g, index, index+1, 0)
	if err != nil {
		named(t, err, fmt.Sprintf("group %d index %d", g, index))
		h.unread[g]++
	} else if es[0].Term != 2 || !bytes.Equal(es[0].Data, want) {
		t.Fatalf("entry %d is served damaged", index)
	}
	off := len(want) * 2 / 3
	if part, err := l.ReadAt(g, index, off, len(want)-off, nil); err != nil {
		named(t, err, fmt.Sprintf("group %d index %d", g, index))
	} else if !bytes.Equal(part, want[off:]) {
		t.Fatalf("a part of entry %d is served damaged", index)
	}
}

// eachFlip flips one bit in each step-th byte of each file of a log.
func eachFlip(t *testing.T, base *vfs.MemFS, step int, check func(what string, fs *vfs.MemFS, h *harm)) {
	t.Helper()
	files, err := base.List("log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		path := "log/" + name
		for at := 0; at < fileSize(t, base, path); at += max(1, min(step, fileSize(t, base, path)/37)) {
			fs := base.CrashClone(killed())
			flip(t, fs, path, 8*at+at%8)
			check(fmt.Sprintf("%s byte %d", name, at), fs, readAll(t, fs))
		}
	}
}

// TestFlippedBitsEverywhereInLog flips bits all over the files of a log: where the newest frames lie,
// after a process was killed and after power was lost, and where older ones do. A bit that is of
// consequence is found at the start or when the entry is read, and costs no more than its group.
func TestFlippedBitsEverywhereInLog(t *testing.T) {
	for name, base := range map[string]*vfs.MemFS{
		"newest, killed":     writtenLog(t, false, killed()),
		"newest, power lost": writtenLog(t, false, vfs.CrashCloneCfg{}),
		"sealed":             writtenLog(t, true, killed()),
	} {
		t.Run(name, func(t *testing.T) {
			found := 0
			eachFlip(t, base, 61, func(what string, _ *vfs.MemFS, h *harm) {
				if !h.whole() && !h.said() {
					t.Errorf("%s: %+v, and nobody says so", what, h)
				}
				if h.refused != strings.HasPrefix(what, formatFile) {
					t.Errorf("%s: refused %v", what, h.refused)
				}
				if len(h.groups) > 1 || len(h.unread) > 1 || h.hard.Commit != damageEntries && !h.refused {
					t.Errorf("%s: more than one group is damaged: %+v", what, h)
				}
				if h.said() {
					found++
				}
			})
			if found < 300 {
				t.Errorf("only %d flipped bits were found", found)
			}
		})
	}
}
