package storage

import (
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	lossyPage   = 4 << 10
	lossySector = 512 // is written as a whole or not at all
	lossyRun    = 1 << 20
)

// lossyNode is a file: what lies below, and the blocks that are not there yet.
type lossyNode struct {
	file vfs.File
	held *atomic.Int64

	// Under the mutex of the names.
	home    string          // where the file below is: a durable name, or in the scratch folder
	durable map[string]bool // its names below
	names   int             // its names as the process sees them
	handles int

	mu    sync.RWMutex
	rng   *rand.Rand
	pages map[int64]*[lossyPage]byte
	size  int64
	below int64 // size of the file below
}

func (n *lossyNode) dirty() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.pages) > 0 || n.size != n.below
}

// drop forgets what was never synced.
func (n *lossyNode) drop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held.Add(-int64(len(n.pages)) * lossyPage)
	n.pages, n.size = nil, n.below
}

func (n *lossyNode) read(p []byte, off int64) (int, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if off >= n.size {
		return 0, io.EOF
	}
	short := off+int64(len(p)) > n.size
	if short {
		p = p[:n.size-off]
	}
	if err := n.readBelow(p, off); err != nil {
		return 0, err
	}
	if len(n.pages) > 0 {
		for at := off - off%lossyPage; at < off+int64(len(p)); at += lossyPage {
			if page := n.pages[at]; page != nil {
				from := max(at, off)
				copy(p[from-off:], page[from-at:])
			}
		}
	}
	if short {
		return len(p), io.EOF
	}
	return len(p), nil
}

// readBelow fills p with what is below, and with zeros where nothing is.
func (n *lossyNode) readBelow(p []byte, off int64) error {
	there := max(0, min(int64(len(p)), n.below-off))
	clear(p[there:])
	if there == 0 {
		return nil
	}
	got, err := n.file.ReadAt(p[:there], off)
	if int64(got) == there {
		return nil
	}
	return err
}

func (n *lossyNode) write(p []byte, off int64, through int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pages == nil {
		n.pages = map[int64]*[lossyPage]byte{}
	}
	end := off + int64(len(p))
	for at := off - off%lossyPage; at < end; at += lossyPage {
		page := n.pages[at]
		if page == nil {
			page = new([lossyPage]byte)
			if at < off || at+lossyPage > end {
				if err := n.readBelow(page[:], at); err != nil {
					return err
				}
			}
			n.pages[at] = page
			n.held.Add(lossyPage)
		}
		from := max(at, off)
		copy(page[from-at:], p[from-off:])
	}
	n.size = max(n.size, end)
	return n.letThrough(off, end, through)
}

// letThrough writes some sectors of what was just written.
func (n *lossyNode) letThrough(off, end int64, through int) error {
	for at := off - off%lossyPage; at < end; at += lossyPage {
		if n.rng.IntN(100) >= through {
			continue
		}
		sectors := lossyPage / lossySector
		first := n.rng.IntN(sectors)
		last := first + 1 + n.rng.IntN(sectors-first)
		from := at + int64(first*lossySector)
		to := min(at+int64(last*lossySector), n.size)
		if from >= to {
			continue
		}
		if err := n.writeBelow(n.pages[at][from-at:to-at], from); err != nil {
			return err
		}
	}
	return nil
}

func (n *lossyNode) writeBelow(p []byte, off int64) error {
	if _, err := n.file.WriteAt(p, off); err != nil {
		return err
	}
	n.below = max(n.below, off+int64(len(p)))
	return nil
}

// flush writes the blocks before limit, in runs.
func (n *lossyNode) flush(limit int64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var run []byte
	var begin int64
	var ats []int64
	write := func() error {
		if len(run) == 0 {
			return nil
		}
		if over := begin + int64(len(run)) - n.size; over > 0 {
			run = run[:int64(len(run))-over]
		}
		if err := n.writeBelow(run, begin); err != nil {
			return err
		}
		for _, at := range ats {
			delete(n.pages, at)
		}
		n.held.Add(-int64(len(ats)) * lossyPage)
		run, ats = run[:0], ats[:0]
		return nil
	}
	for _, at := range slices.Sorted(maps.Keys(n.pages)) {
		if at >= limit {
			break
		}
		if begin+int64(len(run)) != at || len(run) >= lossyRun {
			if err := write(); err != nil {
				return err
			}
			begin = at
		}
		run, ats = append(run, n.pages[at][:]...), append(ats, at)
	}
	return write()
}

func (n *lossyNode) stat(base string) (vfs.FileInfo, error) {
	info, err := n.file.Stat()
	if err != nil {
		return nil, err
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return lossyInfo{info, base, n.size}, nil
}

type lossyInfo struct {
	vfs.FileInfo
	name string
	size int64
}

func (i lossyInfo) Name() string { return i.name }
func (i lossyInfo) Size() int64  { return i.size }

// lossyFile is a handle.
type lossyFile struct {
	fs       *LossyFS
	node     *lossyNode
	name     string
	readPos  int64
	writePos int64
}

func (f *lossyFile) Read(p []byte) (int, error) {
	n, err := f.node.read(p, f.readPos)
	f.readPos += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *lossyFile) ReadAt(p []byte, off int64) (int, error) { return f.node.read(p, off) }

func (f *lossyFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.writePos)
	f.writePos += int64(n)
	return n, err
}

func (f *lossyFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.node.write(p, off, f.fs.through); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *lossyFile) Sync() error {
	if err := f.node.flush(1 << 62); err != nil {
		return err
	}
	return f.node.file.Sync()
}

func (f *lossyFile) SyncData() error {
	if err := f.node.flush(1 << 62); err != nil {
		return err
	}
	return f.node.file.SyncData()
}

// SyncTo promises nothing.
func (f *lossyFile) SyncTo(length int64) (bool, error) {
	return false, f.node.flush(length - length%lossyPage)
}

func (f *lossyFile) Stat() (vfs.FileInfo, error) { return f.node.stat(f.fs.PathBase(f.name)) }

func (f *lossyFile) Preallocate(int64, int64) error { return nil }
func (f *lossyFile) Prefetch(int64, int64) error    { return nil }
func (f *lossyFile) Fd() uintptr                    { return vfs.InvalidFd }

func (f *lossyFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.node.handles--
	return f.fs.settle(f.node)
}
