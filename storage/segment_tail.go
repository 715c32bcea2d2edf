package storage

import (
	"errors"
	"fmt"
	"io"
)

// tail is what the last segment holds.
type tail struct {
	frames []frame
	end    int64  // of the last frame that counts
	next   uint64 // the number of the next frame
	first  uint32 // the oldest segment that is needed
	lost   string // frames that were synced and are not there; empty: none
}

// readTail tells the end of the last segment. A crash may have torn what was not synced, and left later
// frames whole where earlier ones are not. What was synced may be damaged, and must not be taken for
// torn. A frame that is not whole was synced if
//   - a later frame says so, or
//   - the witness does: it is exact unless power was lost after the last sync, or
//   - all that is wrong with it is one flipped bit: a write that is torn lacks whole sectors.
//
// The frame is then damaged, and counts. Otherwise it was torn, and the log ends before it.
func (l *segmentLog) readTail(file *segmentFile) (*tail, error) {
	data, err := l.readAll(file.path)
	if err != nil {
		return nil, err
	}
	v := segmentView{data: data, nonce: file.header.nonce}
	t := &tail{end: segmentStart, next: file.header.seq, first: file.header.first}
	vouched := l.witness.seq
	v.blocks(segmentStart, func(_ int64, f *frame) bool {
		vouched = max(vouched, f.synced)
		return true
	})
	for {
		f, ok := v.frameAt(t.end, t.next)
		if !ok || !sound(v.verify(&f)) && f.seq > vouched {
			break
		}
		t.take(&f)
	}
	for t.next <= vouched {
		if !l.skipLost(file, v, t, vouched) {
			break
		}
	}
	return t, nil
}

func (t *tail) take(f *frame) {
	t.frames = append(t.frames, *f)
	t.end, t.next, t.first = f.end(), f.seq+1, max(t.first, f.first)
}

// sound tells whether a frame is whole but for one flipped bit.
func sound(bad []flaw) bool { return len(bad) == 0 || len(bad) == 1 && bad[0].explained }

// skipLost goes on behind frames that were synced and of which neither block is left.
func (l *segmentLog) skipLost(file *segmentFile, v segmentView, t *tail, vouched uint64) bool {
	from := t.next
	f, ok := v.nextFrame(t.end, t.next)
	ok = ok && f.seq <= vouched
	if ok {
		t.end, t.next = int64(f.off), f.seq
		for ok && (sound(v.verify(&f)) || f.seq <= vouched) {
			t.take(&f)
			f, ok = v.frameAt(t.end, t.next)
		}
		ok = true
	} else {
		t.next = vouched + 1
	}
	t.lost = fmt.Sprintf("%s: frames from %d on are lost, of %d that were synced", file.path, from, vouched)
	return ok
}

func (l *segmentLog) readAll(path string) ([]byte, error) {
	file, err := l.fs.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), file.Close())
	}
	data := make([]byte, info.Size())
	n, err := file.ReadAt(data, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data[:n], nil
}
