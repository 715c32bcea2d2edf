package storage

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A table that is made of memtables is written with pauses while there are commits, and without
// any when there are none; other files never wait.
func TestGentleWritesPauseForCommits(t *testing.T) {
	took := func(c vfs.DiskWriteCategory, commits bool) (d time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			fs := &gentleFS{FS: vfs.NewMem(), pace: &gentle{}}
			f, err := fs.Create("table", c)
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			for range 8 {
				if commits {
					fs.pace.committed()
				}
				if n, err := f.Write(make([]byte, flushSlice/2)); err != nil || n != flushSlice/2 {
					t.Fatalf("%d bytes written: %v", n, err)
				}
			}
			d = time.Since(begin)
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
		return d
	}
	for _, c := range []struct {
		category vfs.DiskWriteCategory
		commits  bool
		want     time.Duration
	}{
		{flushCategory, true, 4 * flushPause},
		{flushCategory, false, 0},
		{"pebble-compaction", true, 0},
	} {
		if got := took(c.category, c.commits); got != c.want {
			t.Errorf("%s, commits %v: %v, want %v", c.category, c.commits, got, c.want)
		}
	}
}

// Pebble calls what it makes of memtables as gentleFS thinks.
func TestFlushesAreGentle(t *testing.T) {
	fs := &flushes{FS: vfs.NewMem()}
	s, err := OpenState((&patient{}).config(fs))
	if err != nil {
		t.Fatal(err)
	}
	b := s.NewBatch()
	b.Set([]byte("key"), []byte("value"))
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if fs.n == 0 {
		t.Errorf("no file of category %s", flushCategory)
	}
}

// flushes counts the files of memtables.
type flushes struct {
	vfs.FS
	n int
}

func (f *flushes) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if c == flushCategory {
		f.n++
	}
	return f.FS.Create(name, c)
}
