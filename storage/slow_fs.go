package storage

import (
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// SlowFS lets each sync of a file or folder take longer, for load tests. All
// methods may be called at the same time.
type SlowFS struct {
	vfs.FS // below
	delay  atomic.Int64
}

// NewSlowFS returns a file system over another one, nil for the disk, that is as
// fast as that until Slow.
func NewSlowFS(fs FS) *SlowFS {
	if fs == nil {
		fs = vfs.Default
	}
	return &SlowFS{FS: fs}
}

// Slow adds delay to each sync that begins from now on; 0 adds nothing.
func (s *SlowFS) Slow(delay time.Duration) { s.delay.Store(int64(delay)) }

func (s *SlowFS) wait() {
	if d := s.delay.Load(); d > 0 {
		time.Sleep(time.Duration(d))
	}
}

func (s *SlowFS) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &slowFile{f, s}, nil
}

// Create implements vfs.FS.
func (s *SlowFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return s.file(s.FS.Create(name, c))
}

// OpenReadWrite implements vfs.FS.
func (s *SlowFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return s.file(s.FS.OpenReadWrite(name, c, o...))
}

// ReuseForWrite implements vfs.FS.
func (s *SlowFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return s.file(s.FS.ReuseForWrite(from, to, c))
}

// OpenDir implements vfs.FS.
func (s *SlowFS) OpenDir(name string) (vfs.File, error) { return s.file(s.FS.OpenDir(name)) }

// Unwrap implements vfs.FS.
func (s *SlowFS) Unwrap() vfs.FS { return s.FS }

type slowFile struct {
	vfs.File
	fs *SlowFS
}

func (f *slowFile) Sync() error {
	f.fs.wait()
	return f.File.Sync()
}

func (f *slowFile) SyncData() error {
	f.fs.wait()
	return f.File.SyncData()
}
