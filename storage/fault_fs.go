package storage

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/blob"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// faultFS stands between Pebble and the disk, so that a failed write or sync is known before
// Pebble decides what to make of it: depending on the file it repeats it for ever, logs it,
// hands it back, or panics in a goroutine of its own with a lock held that nobody can free.
//
// From the first failure on the disk is dead: nothing is written any more, and Pebble is told
// that all went well. So it neither panics nor leaves a writer waiting for a flush that cannot
// end, and the process ends with its owner's words instead of a stack trace. Nobody is misled:
// no answer of the store counts once a fault is known, and it is known before Pebble goes on.
type faultFS struct {
	vfs.FS
	faults *faults
}

func (f *faultFS) dead() bool { return f.faults.get() != nil }

// do carries out what changes the disk. A failure is noted, and then the disk is dead.
func (f *faultFS) do(what, name string, change func() error) {
	if f.dead() {
		return
	}
	if err := change(); err != nil {
		_ = f.faults.set(&fileError{what, name, err})
	}
}

func (f *faultFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.create(name, func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f *faultFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.create(to, func() (vfs.File, error) { return f.FS.ReuseForWrite(from, to, c) })
}

func (f *faultFS) create(name string, create func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File = deadFile{}
	f.do("create", name, func() error {
		created, err := create()
		if err == nil {
			file = created
		}
		return err
	})
	return &faultFile{File: file, fs: f, name: name}, nil
}

// Open looks at the end of a blob file before Pebble (2.1.7) does, which would panic over damage
// there, and over a blob file that is missing.
func (f *faultFS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.Open(name, o...)
	if !strings.HasSuffix(name, ".blob") {
		return file, err
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, &CorruptError{Store: f.faults.name, What: name, Err: errMissing}
	}
	if err != nil {
		return nil, err
	}
	if err := checkBlob(file); err != nil {
		return nil, errors.Join(&CorruptError{Store: f.faults.name, What: name, Err: errors.New(err.Error())}, file.Close())
	}
	return file, nil
}

func checkBlob(file vfs.File) error {
	readable, err := sstable.NewSimpleReadable(file)
	if err != nil {
		return err
	}
	_, err = blob.NewFileReader(context.Background(), readable, blob.FileReaderOptions{}) // it keeps nothing open
	return err
}

func (f *faultFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, o...)
	if err != nil {
		return nil, err
	}
	return &faultFile{File: file, fs: f, name: name}, nil
}

func (f *faultFS) OpenDir(name string) (vfs.File, error) {
	d, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &faultFile{File: d, fs: f, name: name}, nil
}

func (f *faultFS) Rename(from, to string) error {
	f.do("rename", from, func() error { return f.FS.Rename(from, to) })
	return nil
}

// Remove keeps everything once the disk is dead: a file may be obsolete only because of what
// was never written. A file that cannot be removed is no fault.
func (f *faultFS) Remove(name string) error {
	if f.dead() {
		return nil
	}
	return f.FS.Remove(name)
}

func (f *faultFS) Unwrap() vfs.FS { return f.FS }

type faultFile struct {
	vfs.File
	fs    *faultFS
	name  string
	named bool // its folder was synced
}

func (f *faultFile) Write(p []byte) (int, error) {
	f.fs.do("write", f.name, func() error { _, err := f.File.Write(p); return err })
	return len(p), nil
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.do("write", f.name, func() error { _, err := f.File.WriteAt(p, off); return err })
	return len(p), nil
}

// Sync makes a manifest's name durable with its content. Pebble syncs the folder only after it
// has created the marker that points to the manifest: a loss of power between the two could
// keep the marker alone, and the database would not open again.
func (f *faultFile) Sync() error {
	err := f.sync(f.File.Sync)
	if base := f.fs.PathBase(f.name); !f.named && strings.HasPrefix(base, "MANIFEST-") {
		f.named = true
		f.fs.do("sync folder of", f.name, func() error { return syncDir(f.fs.FS, f.fs.PathDir(f.name)) })
	}
	return err
}

func (f *faultFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *faultFile) sync(sync func() error) error {
	f.fs.do("sync", f.name, func() error {
		return sync()
	})
	return nil
}

func (f *faultFile) SyncTo(length int64) (full bool, err error) {
	f.fs.do("sync", f.name, func() error { full, err = f.File.SyncTo(length); return err })
	return full, nil
}

// Close always frees the file; whether it could be closed matters as long as the disk lives.
func (f *faultFile) Close() error {
	err := f.File.Close()
	f.fs.do("close", f.name, func() error { return err })
	return nil
}

// deadFile is created on a dead disk.
type deadFile struct{ vfs.File }

var errDeadDisk = errors.New("nothing is written or read after a failed write")

func (deadFile) Close() error                      { return nil }
func (deadFile) Preallocate(int64, int64) error    { return nil }
func (deadFile) Fd() uintptr                       { return vfs.InvalidFd }
func (deadFile) Stat() (vfs.FileInfo, error)       { return deadInfo{}, nil }
func (deadFile) Prefetch(int64, int64) error       { return nil }
func (deadFile) ReadAt([]byte, int64) (int, error) { return 0, errDeadDisk }
func (deadFile) Read([]byte) (int, error)          { return 0, errDeadDisk }

// deadInfo knows all that is asked of a file just created.
type deadInfo struct{ vfs.FileInfo }

func (deadInfo) Size() int64 { return 0 }

// fileError says which file could not be written.
type fileError struct {
	what, name string
	err        error
}

func (e *fileError) Error() string { return e.what + " " + e.name + ": " + e.err.Error() }

func (e *fileError) Unwrap() error { return e.err }
