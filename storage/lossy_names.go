package storage

import (
	"errors"
	"io"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// clean brings the names of one file to one form.
func (l *LossyFS) clean(name string) string {
	if name = l.PathJoin(name); name == "" {
		return "."
	}
	return name
}

func (l *LossyFS) dirOf(name string) string { return l.clean(l.PathDir(name)) }

// through lets a change of names through at once, if the seed says so.
func (l *LossyFS) letThrough(names ...string) error {
	if !l.lucky() {
		return nil
	}
	for _, name := range names {
		if err := l.commit(name); err != nil {
			return err
		}
	}
	return nil
}

// open returns a handle of a file.
func (l *LossyFS) open(n *lossyNode, name string, o []vfs.OpenOption) vfs.File {
	n.handles++
	f := &lossyFile{fs: l, node: n, name: name}
	for _, option := range o {
		option.Apply(f)
	}
	return f
}

// Create implements vfs.FS.
func (l *LossyFS) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.create(l.clean(name), nil)
}

func (l *LossyFS) create(name string, o []vfs.OpenOption) (vfs.File, error) {
	if _, err := l.FS.Stat(l.dirOf(name)); err != nil {
		return nil, err
	}
	n, err := l.newNode()
	if err != nil {
		return nil, err
	}
	f := l.open(n, name, o)
	if err = l.give(name, n); err == nil {
		err = l.letThrough(name)
	}
	return f, err
}

// Link implements vfs.FS.
func (l *LossyFS) Link(oldname, newname string) error {
	oldname, newname = l.clean(oldname), l.clean(newname)
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.lookup("link", oldname)
	if err != nil {
		return err
	}
	if _, err := l.lookup("link", newname); err == nil {
		return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: os.ErrExist}
	}
	if err := l.give(newname, n); err != nil {
		return err
	}
	return l.letThrough(newname)
}

// Open implements vfs.FS.
func (l *LossyFS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	name = l.clean(name)
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.lookup("open", name)
	if err != nil {
		return nil, err
	}
	return l.open(n, name, o), nil
}

// OpenReadWrite implements vfs.FS.
func (l *LossyFS) OpenReadWrite(name string, _ vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	name = l.clean(name)
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.lookup("open", name)
	if errors.Is(err, os.ErrNotExist) {
		return l.create(name, o)
	}
	if err != nil {
		return nil, err
	}
	return l.open(n, name, o), nil
}

// Rename implements vfs.FS, for files.
func (l *LossyFS) Rename(oldname, newname string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rename(l.clean(oldname), l.clean(newname))
}

func (l *LossyFS) rename(oldname, newname string) error {
	n, err := l.lookup("rename", oldname)
	if err != nil || oldname == newname {
		return err
	}
	if err := l.give(newname, n); err != nil {
		return err
	}
	if err := l.unlink(oldname, n); err != nil {
		return err
	}
	return l.letThrough(newname, oldname)
}

// ReuseForWrite implements vfs.FS.
func (l *LossyFS) ReuseForWrite(oldname, newname string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	oldname, newname = l.clean(oldname), l.clean(newname)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.rename(oldname, newname); err != nil {
		return nil, err
	}
	n, err := l.lookup("open", newname)
	if err != nil {
		return nil, err
	}
	return l.open(n, newname, nil), nil
}

// Remove implements vfs.FS.
func (l *LossyFS) Remove(name string) error {
	name = l.clean(name)
	l.mu.Lock()
	defer l.mu.Unlock()
	if info, err := l.FS.Stat(name); err == nil && info.IsDir() {
		if names, err := l.list(name); err != nil || len(names) > 0 {
			return errors.Join(&os.PathError{Op: "remove", Path: name, Err: errors.New("folder not empty")}, err)
		}
		if err := l.syncDir(name); err != nil {
			return err
		}
		return l.FS.Remove(name)
	}
	return l.remove(name)
}

func (l *LossyFS) remove(name string) error {
	n, err := l.lookup("remove", name)
	if err != nil {
		return err
	}
	if err := l.unlink(name, n); err != nil {
		return err
	}
	return l.letThrough(name)
}

// RemoveAll implements vfs.FS.
func (l *LossyFS) RemoveAll(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.removeAll(l.clean(name))
}

func (l *LossyFS) removeAll(name string) error {
	info, err := l.FS.Stat(name)
	if err != nil || !info.IsDir() {
		if err = l.remove(name); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	names, err := l.list(name)
	for _, child := range names {
		err = errors.Join(err, l.removeAll(l.PathJoin(name, child)))
	}
	if err = errors.Join(err, l.syncDir(name)); err != nil {
		return err
	}
	return l.FS.RemoveAll(name)
}

// List implements vfs.FS.
func (l *LossyFS) List(dir string) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.list(l.clean(dir))
}

func (l *LossyFS) list(dir string) ([]string, error) {
	below, err := l.FS.List(dir)
	if err != nil {
		return nil, err
	}
	names := slices.DeleteFunc(below, func(base string) bool {
		name := l.PathJoin(dir, base)
		_, changed := l.pending[name]
		return changed || name == l.scratch
	})
	for name, n := range l.pending {
		if n != nil && l.dirOf(name) == dir {
			names = append(names, l.PathBase(name))
		}
	}
	return names, nil
}

// Stat implements vfs.FS.
func (l *LossyFS) Stat(name string) (vfs.FileInfo, error) {
	name = l.clean(name)
	l.mu.Lock()
	defer l.mu.Unlock()
	n, changed := l.pending[name]
	if n == nil {
		n = l.kept[name]
	}
	switch {
	case changed && l.pending[name] == nil:
		return nil, notExist("stat", name)
	case n == nil:
		return l.FS.Stat(name)
	}
	return n.stat(l.PathBase(name))
}

// OpenDir implements vfs.FS.
func (l *LossyFS) OpenDir(name string) (vfs.File, error) {
	d, err := l.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &lossyDir{File: d, fs: l, name: l.clean(name)}, nil
}

// Unwrap implements vfs.FS.
func (l *LossyFS) Unwrap() vfs.FS { return l.FS }

type lossyDir struct {
	vfs.File
	fs   *LossyFS
	name string
}

func (d *lossyDir) Sync() error {
	d.fs.mu.Lock()
	err := d.fs.syncDir(d.name)
	d.fs.mu.Unlock()
	if err != nil {
		return err
	}
	return d.File.Sync()
}

func (d *lossyDir) SyncData() error { return d.Sync() }

// Lock locks a file below. Who holds the data folder's lock removes what another process left in
// the scratch folder.
func (l *LossyFS) Lock(name string) (io.Closer, error) {
	lock, err := l.FS.Lock(name)
	if err != nil || l.dirOf(l.clean(name)) != l.dirOf(l.scratch) {
		return lock, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made == 0 { // nothing there is ours
		err = l.FS.RemoveAll(l.scratch)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}
