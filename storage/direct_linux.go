package storage

import (
	"os"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// directFile is a file of the operating system's that is written past the page cache.
type directFile struct{ *os.File }

// openDirect opens a file once more, if it is one of the disk and its file system can do that; else it
// returns nil.
func openDirect(path string, file vfs.File) *directFile {
	if file.Fd() == vfs.InvalidFd {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return nil
	}
	return &directFile{f}
}

// allocate finds room, and makes the file as long: a write that has the file grow waits for more.
func (f *directFile) allocate(off, length int64) error {
	return syscall.Fallocate(int(f.Fd()), 0, off, length)
}
