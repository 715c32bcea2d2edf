package storage

import (
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A flush of the state takes tens of milliseconds of one core, and nobody waits for it: so it goes in
// slices with pauses between them while there are commits, and those are not held up by all of it at
// once. With these, memtables are still written several times as fast as commits can fill them.
const (
	flushSlice = 16 << 10 // bytes of a table
	flushPause = time.Millisecond
	// flushCategory is what Pebble calls the tables that it makes of memtables.
	flushCategory = "pebble-memtable-flush"
)

// gentle knows whether commits go on. All methods may be called at the same time.
type gentle struct {
	commits atomic.Uint64
	seen    atomic.Uint64 // commits at the last pause
}

// committed counts a commit.
func (g *gentle) committed() { g.commits.Add(1) }

// pause blocks for a moment if there was a commit since the last call.
func (g *gentle) pause() {
	if n := g.commits.Load(); g.seen.Swap(n) != n {
		time.Sleep(flushPause)
	}
}

// gentleFS has what Pebble writes of memtables go in slices.
type gentleFS struct {
	vfs.FS
	pace *gentle
}

// Create implements vfs.FS.
func (f *gentleFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	if err != nil || c != flushCategory {
		return file, err
	}
	return &gentleFile{File: file, pace: f.pace}, nil
}

// Unwrap implements vfs.FS.
func (f *gentleFS) Unwrap() vfs.FS { return f.FS }

type gentleFile struct {
	vfs.File
	pace    *gentle
	written int // since the last pause
}

func (f *gentleFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if f.written += n; f.written >= flushSlice {
		f.written = 0
		f.pace.pause()
	}
	return n, err
}
