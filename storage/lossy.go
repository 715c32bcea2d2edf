package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// LossyFS makes the sudden death of a process a loss of power, for load tests: what was not
// synced is in this process's memory alone, and dies with it. A write reaches the file below with
// the next sync of that file, a new, renamed or removed name the folder below with the next sync
// of that folder; but some of both, as the seed says, are let through at once, in pieces and out
// of order, as a kernel may write back whatever it likes. The process itself sees all that it did.
//
// Two things are more durable than a disk promises: a new folder is there at once, and so are the
// removals of RemoveAll. A folder cannot be renamed. A file that is synced before its folder lies in the scratch folder until
// then, so that memory holds nothing but what was not synced. A file's blocks up to a SyncTo are
// let through, as a kernel that is asked to does.
//
// All methods may be called at the same time.
type LossyFS struct {
	vfs.FS  // below
	scratch string
	through int

	mu  sync.Mutex // over all names; before a node's own
	rng *rand.Rand
	// pending are the names that the process sees otherwise than the disk; nil: it is gone.
	pending map[string]*lossyNode
	// kept are the files below that are open or not synced, by each of their names below.
	kept map[string]*lossyNode
	made uint64
	held atomic.Int64
}

const scratchDir = ".unsynced"

// LossyConfig says what is lost.
type LossyConfig struct {
	FS  FS     // nil: the disk
	Dir string // the data folder: its own folder .unsynced takes files whose name is not durable
	// Seed decides what is let through at once: Through percent of the writes (pieces of them) and
	// of the changes of names.
	Seed    uint64
	Through int // 0 to 100
}

// NewLossyFS returns a file system over another one. It touches no disk until it is used.
func NewLossyFS(c LossyConfig) (*LossyFS, error) {
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Dir == "" || c.Through < 0 || c.Through > 100 {
		return nil, fmt.Errorf("lossy disk: dir %q must not be empty, through %d must be from 0 to 100", c.Dir, c.Through)
	}
	return &LossyFS{
		FS: c.FS, scratch: c.FS.PathJoin(c.Dir, scratchDir), through: c.Through,
		rng:     rand.New(rand.NewPCG(c.Seed, 11)),
		pending: map[string]*lossyNode{}, kept: map[string]*lossyNode{},
	}, nil
}

// Held is how many bytes of unsynced blocks are in memory.
func (l *LossyFS) Held() int64 { return l.held.Load() }

func (l *LossyFS) lucky() bool { return l.rng.IntN(100) < l.through }

func notExist(op, name string) error {
	return &os.PathError{Op: op, Path: name, Err: os.ErrNotExist}
}

// lookup returns the file that the process sees under a name, and keeps it known.
func (l *LossyFS) lookup(op, name string) (*lossyNode, error) {
	if n, ok := l.pending[name]; ok {
		if n == nil {
			return nil, notExist(op, name)
		}
		return n, nil
	}
	if n := l.kept[name]; n != nil {
		return n, nil
	}
	info, err := l.FS.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, &os.PathError{Op: op, Path: name, Err: errors.New("is a folder")}
	}
	file, err := l.FS.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	n := &lossyNode{
		file: file, home: name, names: 1, durable: map[string]bool{name: true},
		size: info.Size(), below: info.Size(), held: &l.held,
	}
	n.rng = rand.New(rand.NewPCG(l.rng.Uint64(), 12))
	l.kept[name] = n
	return n, nil
}

// newNode makes an empty file without a name, in the scratch folder.
func (l *LossyFS) newNode() (*lossyNode, error) {
	home, err := l.scratchName()
	if err != nil {
		return nil, err
	}
	file, err := l.FS.OpenReadWrite(home, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	n := &lossyNode{file: file, home: home, durable: map[string]bool{}, held: &l.held}
	n.rng = rand.New(rand.NewPCG(l.rng.Uint64(), 12))
	return n, nil
}

func (l *LossyFS) scratchName() (string, error) {
	if l.made == 0 {
		if err := l.MkdirAll(l.scratch, 0o755); err != nil {
			return "", err
		}
	}
	for {
		l.made++
		name := l.PathJoin(l.scratch, fmt.Sprintf("%d-%d", os.Getpid(), l.made))
		if _, err := l.FS.Stat(name); errors.Is(err, os.ErrNotExist) { // else an earlier process had our id
			return name, nil
		} else if err != nil {
			return "", err
		}
	}
}

// settle forgets a file that nobody sees or holds any more, or that is on disk as the process
// sees it.
func (l *LossyFS) settle(n *lossyNode) error {
	if n.handles > 0 {
		return nil
	}
	if n.names == 0 {
		n.drop()
	}
	if n.names == 0 && len(n.durable) == 0 {
		err := n.file.Close()
		if n.inScratch(l) {
			err = errors.Join(err, l.FS.Remove(n.home))
		}
		return err
	}
	if n.dirty() || n.names != len(n.durable) {
		return nil
	}
	for name := range n.durable {
		if _, changed := l.pending[name]; changed {
			return nil
		}
	}
	for name := range n.durable {
		delete(l.kept, name)
	}
	return n.file.Close()
}

func (n *lossyNode) inScratch(l *LossyFS) bool { return l.PathDir(n.home) == l.scratch }

// commit makes what the process sees under a name durable.
func (l *LossyFS) commit(name string) error {
	n, ok := l.pending[name]
	if !ok {
		return nil
	}
	if n != nil && n.durable[name] {
		delete(l.pending, name)
		return l.settle(n)
	}
	if err := l.detach(name, n != nil); err != nil {
		return err
	}
	delete(l.pending, name)
	if n == nil {
		return nil
	}
	if err := l.place(n, name); err != nil {
		return err
	}
	n.durable[name] = true
	l.kept[name] = n
	return l.settle(n)
}

// place gives a file a name below in one step, whatever has the name: its first, or one more.
func (l *LossyFS) place(n *lossyNode, name string) error {
	if n.inScratch(l) {
		from := n.home
		n.home = name
		return l.FS.Rename(from, name)
	}
	temp, err := l.scratchName()
	if err != nil {
		return err
	}
	if err := l.FS.Link(n.home, temp); err != nil {
		return err
	}
	return l.FS.Rename(temp, name)
}

// detach takes a durable name away from the file that has it, for good, unless another file is
// about to take the name over anyway. A file that the process sees elsewhere is kept.
func (l *LossyFS) detach(name string, taken bool) error {
	n := l.kept[name]
	if n == nil {
		if _, err := l.FS.Stat(name); taken || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return l.FS.Remove(name)
	}
	delete(l.kept, name)
	delete(n.durable, name)
	if n.home == name {
		for other := range n.durable {
			n.home = other
		}
	}
	if n.home == name && n.names > 0 {
		home, err := l.scratchName()
		if err == nil {
			err = l.FS.Rename(name, home)
		}
		n.home = home
		return err
	}
	var err error
	if !taken {
		err = l.FS.Remove(name)
	}
	return errors.Join(err, l.settle(n))
}

// unlink takes a name away in what the process sees.
func (l *LossyFS) unlink(name string, n *lossyNode) error {
	n.names--
	if n.durable[name] {
		l.pending[name] = nil
	} else {
		delete(l.pending, name)
		if l.kept[name] != nil {
			l.pending[name] = nil // the name has an older file on disk
		}
	}
	return l.settle(n)
}

// give puts a file under a name in what the process sees.
func (l *LossyFS) give(name string, n *lossyNode) error {
	if old, err := l.lookup("create", name); err == nil {
		if err := l.unlink(name, old); err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	n.names++
	l.pending[name] = n
	return nil
}

// syncDir makes the names of a folder durable: first those that are there, then those that are
// not, so that what was moved is never lost.
func (l *LossyFS) syncDir(dir string) error {
	var there, gone []string
	for name, n := range l.pending {
		switch {
		case l.dirOf(name) != dir:
		case n != nil:
			there = append(there, name)
		default:
			gone = append(gone, name)
		}
	}
	slices.Sort(there)
	slices.Sort(gone)
	for _, name := range append(there, gone...) {
		if err := l.commit(name); err != nil {
			return err
		}
	}
	return nil
}
