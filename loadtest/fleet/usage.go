package fleet

import (
	"io/fs"
	"path/filepath"
	"time"

	"github.com/waystation/waystation/loadtest/report"
)

// usage adds up a node's incarnations. A sample with known unset makes the whole
// unknown: figures are left out rather than guessed.
type usage struct {
	rss       int64
	cpu       time.Duration
	disk      int64
	unknown   bool
	unwritten bool // bytes written are not told
}

// sample is what the system tells of a process so far.
type sample struct {
	rss  int64 // peak, bytes
	cpu  time.Duration
	disk int64 // bytes written to disk; -1: not told
}

// leave takes account of an incarnation that is about to end.
func (u *usage) leave(pid int) {
	s, ok := read(pid)
	if !ok {
		u.unknown = true
		return
	}
	u.add(s)
}

func (u *usage) add(s sample) {
	u.rss = max(u.rss, s.rss)
	u.cpu += s.cpu
	if s.disk < 0 {
		u.unwritten = true
		return
	}
	u.disk += s.disk
}

// total returns the sum with the running incarnation, if pid is not 0.
func (u usage) total(pid int, dataDir string) report.Usage {
	if pid != 0 {
		u.leave(pid)
	}
	sum := report.Usage{RSSBytes: u.rss, CPU: u.cpu, DiskBytes: u.disk}
	if u.unknown {
		sum.RSSBytes, sum.CPU = -1, -1
	}
	// A folder in memory, or a system that does not tell: what lies there now.
	if u.unknown || u.unwritten || u.disk == 0 {
		sum.DiskBytes = folderSize(dataDir)
	}
	return sum
}

func folderSize(dir string) (bytes int64) {
	// Files come and go below a running node: what is gone counts nothing.
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil //nolint:nilerr // as above
		}
		if info, err := entry.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}
