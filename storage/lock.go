package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	lockFile  = "LOCK"
	ownerFile = "OWNER"
)

// DirLock is the ownership of a data folder. It ends with Close, or with the process.
type DirLock struct {
	lock io.Closer
	fs   FS
	path string
}

// LockDir creates the data folder if it is absent and takes it for this process. If another
// process owns it the error is ErrLocked, and names the folder and that process. It does not
// wait. A nil fs is the disk.
func LockDir(fs FS, dir string) (*DirLock, error) {
	if fs == nil {
		fs = vfs.Default
	}
	if err := mkdirDurable(fs, dir); err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	lock, err := fs.Lock(fs.PathJoin(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, lockedBy(fs, dir, err))
	}
	l := &DirLock{lock: lock, fs: fs, path: fs.PathJoin(dir, ownerFile)}
	// The lock file itself is opened by nobody else: on Unix, closing any descriptor of it
	// would drop the lock, and on Windows it cannot be read. So the PID has a file of its own.
	if err := writeAtomic(fs, dir, ownerFile, strconv.Itoa(os.Getpid())+"\n"); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), lock.Close())
	}
	return l, nil
}

func lockedBy(fs FS, dir string, cause error) error {
	if errors.Is(cause, os.ErrPermission) {
		return cause // the folder may not be written: nobody holds it
	}
	owner := "another process"
	if text, err := readSmall(fs, fs.PathJoin(dir, ownerFile)); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(text)); err == nil {
			owner = fmt.Sprintf("process %d", pid)
		}
	}
	return fmt.Errorf("%w by %s; stop it, or give this node a data folder of its own (%w)", ErrLocked, owner, cause)
}

// Close gives the folder back. A second call does nothing.
func (l *DirLock) Close() error {
	if l.lock == nil {
		return nil
	}
	lock := l.lock
	l.lock = nil
	// The owner goes first: once the lock is free, the file may be the next owner's.
	err := l.fs.Remove(l.path)
	return errors.Join(err, lock.Close())
}
