package storage

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// openSegmentLog opens or creates the log in a folder, and begins a segment: behind what a crash
// left nothing is ever written.
func openSegmentLog(c segmentConfig) (*segmentLog, error) {
	l := newSegmentLog(c)
	if err := checkFormat(l.fs, l.dir, "log", logFormat); err != nil {
		return nil, err
	}
	w, err := openWitness(l.fs, l.dir)
	if err != nil {
		return nil, err
	}
	l.witness = w
	if err := l.recover(); err != nil {
		_ = l.closeFiles() // the first error says more
		return nil, err
	}
	return l, nil
}

// segmentFile is a file as a start finds it.
type segmentFile struct {
	number uint32
	path   string
	size   int64
	header segmentHeader
	whole  bool // it has a header, and that is its own
}

// recover replays what is there.
func (l *segmentLog) recover() error {
	files, err := l.find()
	if err != nil {
		return err
	}
	last := -1
	for i := range files {
		if files[i].whole {
			last = i
		}
	}
	next := segmentHeader{number: 1, first: 1, nonce: l.nonce(), seq: 1}
	if last < 0 {
		if l.witness.seq > 0 {
			return l.corrupt(fmt.Errorf("%w: no segment is whole, though frame %d was synced", errMissing, l.witness.seq))
		}
	} else if next, err = l.replay(files[:last+1]); err != nil {
		return err
	}
	if err := l.removeOld(files, next); err != nil {
		return err
	}
	s, err := l.create(next)
	if err != nil {
		return err
	}
	l.segments = append(l.segments, s)
	l.seq, l.durable = next.seq-1, next.seq-1
	return nil
}

func (l *segmentLog) corrupt(err error) error {
	return &CorruptError{Store: "log", What: "database", Err: err}
}

// find lists the segments in order, with their headers.
func (l *segmentLog) find() ([]segmentFile, error) {
	names, err := l.fs.List(l.dir)
	if err != nil {
		return nil, fmt.Errorf("list folder: %w", err)
	}
	var files []segmentFile
	for _, name := range names {
		if n, ok := segmentNumber(name); ok {
			files = append(files, segmentFile{number: n, path: l.fs.PathJoin(l.dir, name)})
		}
	}
	sortSegments(files)
	for i := range files {
		if err := l.readHeader(&files[i]); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// readHeader takes whichever copy of a header is whole.
func (l *segmentLog) readHeader(f *segmentFile) error {
	file, err := l.fs.Open(f.path)
	if err != nil {
		return err
	}
	b := make([]byte, segmentStart)
	n, err := file.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	info, statErr := file.Stat()
	if err = firstErr(err, statErr, file.Close()); err != nil {
		return fmt.Errorf("read %s: %w", f.path, err)
	}
	f.size = info.Size()
	for _, at := range []int{0, segmentCopy} {
		h, ok := parseSegmentHeader(b[min(at, n):n])
		if !ok {
			l.log.Warn("a copy of a segment's header is damaged or was torn", "file", f.path, "at", at)
		} else if h.number == f.number {
			f.header, f.whole = h, true
		}
	}
	return nil
}

// replay applies all frames from the oldest segment that is needed. It returns how the next segment
// begins. The last file is whole, and has what was written last.
func (l *segmentLog) replay(files []segmentFile) (next segmentHeader, err error) {
	last := files[len(files)-1]
	t, err := l.readTail(&last)
	if err != nil {
		return next, err
	}
	first := max(last.header.first, t.first)
	needed := files[max(0, len(files)-int(last.number-first)-1):]
	if needed[0].number != first {
		return next, l.corrupt(fmt.Errorf("%w: segment %d, the first that is needed", errMissing, first))
	}
	for i := range needed {
		if err := l.replaySegment(needed, i, t); err != nil {
			return next, err
		}
	}
	l.missAbsent(last.number, t.next-1)
	return segmentHeader{number: last.number + 1, first: first, prevEnd: uint32(t.end), nonce: l.nonce(), seq: t.next}, nil
}

// replaySegment applies the frames of one segment.
func (l *segmentLog) replaySegment(needed []segmentFile, i int, t *tail) error {
	f := &needed[i]
	if !f.whole {
		return l.corrupt(fmt.Errorf("%w: the header of %s", errChecksum, f.path))
	}
	if i > 0 && needed[i-1].number != f.number-1 {
		return l.corrupt(fmt.Errorf("%w: segment %d", errMissing, f.number-1))
	}
	file, err := l.fs.OpenReadWrite(f.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("open %s: %w", f.path, err)
	}
	s := openSegment(f.path, f.header, file)
	l.segments = append(l.segments, s)
	if i == len(needed)-1 {
		return l.replayTail(s, t)
	}
	s.end.Store(int64(needed[i+1].header.prevEnd))
	return l.replaySealed(s, needed[i+1].header.seq)
}

// replayTail applies what the last segment has, and makes that durable: from now on it counts as
// synced, whether it was or not.
func (l *segmentLog) replayTail(s *segment, t *tail) error {
	s.end.Store(t.end)
	for i := range t.frames {
		l.replayFrame(s, &t.frames[i])
	}
	if t.lost != "" {
		l.loseAll(s.header.number, t.next-1, t.lost)
	}
	if err := s.file.Sync(); err != nil {
		return &fileError{"sync", s.path, err}
	}
	return nil
}

// replayFrame applies a frame, and takes note of what does not follow, as behind frames that are lost.
func (l *segmentLog) replayFrame(s *segment, f *frame) {
	err := l.index.apply(s.header.number, f.bodyAt(), f)
	var e *opError
	if errors.As(err, &e) {
		l.mark(s.header.number, f.seq, e.group, fmt.Errorf("%s frame %d: %w", s.path, f.seq, err))
	}
	for _, bad := range f.damaged {
		l.mark(s.header.number, f.seq, bad.group, bad.err)
	}
}

// mark remembers that a group has a damaged record, until the group is dropped.
func (l *segmentLog) mark(segment uint32, seq uint64, g GroupID, err error) {
	l.log.Error("log damaged", "group", g, "error", err)
	l.index.set(string(groupKey(g, fieldDamage)), small{damageText(err), segment}, seq)
}

// missAbsent looks for entries that are nowhere, in the midst of others.
func (l *segmentLog) missAbsent(segment uint32, seq uint64) {
	for _, g := range l.index.groups() {
		if index, ok := l.index.entries[g].absent(); ok {
			l.mark(segment, seq, g, corruptLog(entryKey(g, index, 0), errMissing))
		}
	}
}

// loseAll is for frames of which nobody knows what they did: any group may be hurt, those too that
// they created.
func (l *segmentLog) loseAll(segment uint32, seq uint64, what string) {
	err := errors.New(what)
	l.log.Error("log damaged, and all groups with it", "error", err)
	groups := map[GroupID]bool{}
	for g := range l.index.entries {
		groups[g] = true
	}
	for k := range l.index.smalls {
		if g, _, ok := parseGroupKey([]byte(k)); ok {
			groups[g] = true
		}
	}
	for g := range groups {
		l.index.set(string(groupKey(g, fieldDamage)), small{damageText(err), segment}, seq)
	}
	l.index.set(string([]byte{prefixLost}), small{damageText(err), segment}, seq)
}

// removeOld keeps or removes what no start needs any more: segments that were let go, and one that was
// being created.
func (l *segmentLog) removeOld(files []segmentFile, next segmentHeader) error {
	for _, f := range files {
		if f.number >= next.first && f.number < next.number {
			continue
		}
		if f.number < next.first && len(l.spares) < mostSpares && f.size >= l.target/2 {
			l.spares = append(l.spares, spare{f.path, f.size})
			l.spared += f.size
			continue
		}
		if err := l.fs.Remove(f.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", f.path, err)
		}
	}
	return nil
}
