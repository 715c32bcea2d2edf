package storage

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const segmentSuffix = ".seg"

func segmentName(number uint32) string { return fmt.Sprintf("%010d%s", number, segmentSuffix) }

// segmentNumber is the number in a file's name, if it is that of a segment.
func segmentNumber(name string) (uint32, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), ok && err == nil && n > 0 && segmentName(uint32(n)) == name
}

// segment is an open file. It is closed when its last user is gone.
type segment struct {
	header segmentHeader
	path   string
	file   vfs.File
	end    atomic.Int64 // what is behind is nothing
	users  atomic.Int32

	// What follows is its writer's.
	direct    *directFile // the same file, past the page cache; nil: that cannot be
	allocated int64       // up to there the file system has found room
}

func openSegment(path string, h segmentHeader, file vfs.File) *segment {
	s := &segment{header: h, path: path, file: file}
	s.end.Store(segmentStart)
	s.users.Store(1)
	return s
}

// allocateStep is how much room is asked for at a time: a segment that a restart ends early holds no more.
const allocateStep = 4 << 20

// allocate finds room for what is to be written up to end. A sync has less to do then. What it cannot do,
// the write will.
func (s *segment) allocate(end, target int64) {
	for s.allocated < end {
		step := min(allocateStep, target)
		if s.direct == nil || s.direct.allocate(s.allocated, step) != nil {
			_ = s.file.Preallocate(s.allocated, step)
		}
		s.allocated += step
	}
}

func (s *segment) release() error {
	if s.users.Add(-1) > 0 {
		return nil
	}
	err := s.file.Close()
	if s.direct != nil {
		err = errors.Join(err, s.direct.Close())
	}
	if err != nil {
		return &fileError{"close", s.path, err}
	}
	return nil
}

// spare is a file that was a segment. To write over it costs a file system far less than to let a
// new file grow: no blocks are to be found, and a sync has nothing to do but the data.
type spare struct {
	path string
	size int64
}

// mostSpares is how many are kept: as many as fill up between two truncations of the groups' logs.
const mostSpares = 3

// create makes the next segment, durable with its name, before anything is written to it that counts.
func (l *segmentLog) create(h segmentHeader) (*segment, error) {
	path := l.fs.PathJoin(l.dir, segmentName(h.number))
	used, err := l.reuse(path)
	if err != nil {
		return nil, err
	}
	file, err := l.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, &fileError{"create", path, err}
	}
	s := openSegment(path, h, file)
	if used {
		s.allocated = math.MaxInt64
	}
	if err := l.begin(s); err != nil {
		return nil, errors.Join(err, s.release())
	}
	s.direct = openDirect(path, file)
	l.blocks.restart()
	return s, nil
}

// reuse gives a spare the name of the next segment.
func (l *segmentLog) reuse(path string) (bool, error) {
	n := len(l.spares)
	if n == 0 {
		return false, nil
	}
	s := l.spares[n-1]
	l.spares = l.spares[:n-1]
	if err := l.fs.Rename(s.path, path); err != nil {
		return false, &fileError{"rename", s.path, err}
	}
	l.addSpared(-s.size)
	return true, nil
}

func (l *segmentLog) begin(s *segment) error {
	header := s.header.encode()
	for _, at := range []int64{0, segmentCopy} {
		if _, err := s.file.WriteAt(header, at); err != nil {
			return &fileError{"write", s.path, err}
		}
	}
	if err := s.file.Sync(); err != nil {
		return &fileError{"sync", s.path, err}
	}
	if err := syncDir(l.fs, l.dir); err != nil {
		return &fileError{"sync folder", l.dir, err}
	}
	return nil
}

func (l *segmentLog) addSpared(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spared += n
}

// leaving is a segment that is needed no more, but only frames after a certain one say so.
type leaving struct {
	segment *segment
	after   uint64
}

// retire lets segments go of which nothing is alive. What made it so must be durable, and that the
// segment is not needed must be as well before its file is touched: a start misses it otherwise.
func (l *segmentLog) retire() error {
	for len(l.segments) > 1 && l.obsolete(l.segments[0]) {
		l.leave()
	}
	for len(l.leaving) > 0 && l.leaving[0].after < l.durable {
		s := l.leaving[0].segment
		l.leaving = l.leaving[1:]
		if err := l.discard(s); err != nil {
			return err
		}
	}
	return nil
}

func (l *segmentLog) obsolete(s *segment) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	u := l.index.segments[s.header.number]
	return u == nil || len(u.groups) == 0 && u.smalls == 0 && u.touched <= l.durable
}

func (l *segmentLog) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.segments[0]
	l.segments = append([]*segment(nil), l.segments[1:]...)
	delete(l.index.segments, s.header.number)
	l.leaving = append(l.leaving, leaving{s, l.seq})
	l.spared += s.end.Load()
}

// discard keeps a file for the next segment, or removes it. One that is still read is not written over.
func (l *segmentLog) discard(s *segment) error {
	size := s.end.Load()
	keep := len(l.spares) < mostSpares && s.users.Load() == 1 && size >= l.target/2
	if err := s.release(); err != nil {
		return err
	}
	if keep {
		l.spares = append(l.spares, spare{s.path, size})
		return nil
	}
	l.addSpared(-size)
	if err := l.fs.Remove(s.path); err != nil {
		l.log.Warn("segment not removed", "file", s.path, "error", err)
	}
	return nil
}
