package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
)

func sortSegments(files []segmentFile) {
	sort.Slice(files, func(i, j int) bool { return files[i].number < files[j].number })
}

// damagedEntry is an entry with a chunk that is not as it was written.
type damagedEntry struct {
	group GroupID
	err   error
}

// scanWindow is how much is read at a time to go from block to block.
const scanWindow = 64 << 10

// replaySealed goes from frame to frame by their first blocks, without reading entries. All that the
// segment has was synced before the next one began, so whatever is wrong is damage.
func (l *segmentLog) replaySealed(s *segment, nextSeq uint64) error {
	seq, end := s.header.seq, s.end.Load()
	w := scanner{segment: s, buf: make([]byte, scanWindow)}
	for off := int64(segmentStart); off < end; {
		f, err := w.block(off)
		if err != nil && !errors.Is(err, errFrame) {
			return err
		}
		if err != nil || f.seq != seq || int64(f.off) != off || f.end() > end {
			return l.replayDamaged(s, off, seq, nextSeq)
		}
		l.replayFrame(s, &f)
		off, seq = f.end(), seq+1
	}
	if seq != nextSeq {
		l.loseAll(s.header.number, nextSeq-1, fmt.Sprintf("%s: frames %d to %d are lost", s.path, seq, nextSeq-1))
	}
	return nil
}

// scanner reads blocks one behind the other, small frames many at a time.
type scanner struct {
	*segment
	buf []byte
	at  int64 // of what is in buf
	n   int
}

// from returns at least n bytes from off on, or all that there are.
func (w *scanner) from(off int64, n int) ([]byte, error) {
	if off >= w.at && off+int64(n) <= w.at+int64(w.n) {
		return w.buf[off-w.at : w.n], nil
	}
	if n > len(w.buf) {
		w.buf = make([]byte, n)
	}
	read, err := w.file.ReadAt(w.buf, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, &fileError{"read", w.path, err}
	}
	w.at, w.n = off, read
	return w.buf[:read], nil
}

// block takes the block at off apart. What it returns holds until the next call.
func (w *scanner) block(off int64) (frame, error) {
	b, err := w.from(off, blockHead)
	if err != nil {
		return frame{}, err
	}
	length, ok := blockLen(b, w.header.nonce)
	if !ok || int64(length) > w.end.Load()-off {
		return frame{}, errFrame
	}
	if b, err = w.from(off, length); err != nil {
		return frame{}, err
	}
	return parseBlock(b, w.header.nonce)
}

// replayDamaged goes on where a frame's first block is damaged: with its second one, or, if that is
// too, with the next frame that is whole.
func (l *segmentLog) replayDamaged(s *segment, off int64, seq, nextSeq uint64) error {
	data := make([]byte, s.end.Load())
	n, err := s.file.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return &fileError{"read", s.path, err}
	}
	data = data[:n]
	v := segmentView{data: data, nonce: s.header.nonce}
	for off < s.end.Load() {
		f, ok := v.frameAt(off, seq)
		if !ok {
			if f, ok = v.nextFrame(off, seq); !ok {
				break
			}
			l.loseAll(s.header.number, f.seq-1, fmt.Sprintf("%s: frames %d to %d are lost", s.path, seq, f.seq-1))
		}
		l.log.Warn("a segment is damaged", "file", s.path, "at", off)
		v.verify(&f)
		l.replayFrame(s, &f)
		off, seq = f.end(), f.seq+1
	}
	if seq != nextSeq {
		l.loseAll(s.header.number, nextSeq-1, fmt.Sprintf("%s: frames %d to %d are lost", s.path, seq, nextSeq-1))
	}
	return nil
}

// segmentView is a whole segment in memory.
type segmentView struct {
	data  []byte
	nonce uint64
}

func (v segmentView) from(off int64) []byte { return v.data[min(off, int64(len(v.data))):] }

// frameAt takes a frame apart by either of its blocks.
func (v segmentView) frameAt(off int64, seq uint64) (frame, bool) {
	if f, err := parseBlock(v.from(off), v.nonce); err == nil && f.seq == seq && int64(f.off) == off {
		return f, f.end() <= int64(len(v.data))
	}
	var at frame
	ok := v.blocks(off+1, func(pos int64, f *frame) bool {
		at = *f
		return f.seq < seq
	})
	return at, ok && at.seq == seq && int64(at.off) == off
}

// nextFrame finds the next frame behind off that has a whole block.
func (v segmentView) nextFrame(off int64, seq uint64) (frame, bool) {
	var at frame
	ok := v.blocks(off+1, func(_ int64, f *frame) bool {
		at = *f
		return f.seq <= seq || int64(f.off) <= off
	})
	return at, ok
}

// blocks visits all whole blocks from off on, until visit returns false, and tells whether it did.
func (v segmentView) blocks(off int64, visit func(pos int64, f *frame) bool) bool {
	var mark [8]byte
	binary.BigEndian.PutUint64(mark[:], v.nonce)
	for {
		n := bytes.Index(v.from(off), mark[:])
		if n < 0 {
			return false
		}
		off += int64(n)
		f, err := parseBlock(v.from(off), v.nonce)
		if err == nil && (off == int64(f.off) || off == f.backAt()) && f.end() <= int64(len(v.data)) && !visit(off, &f) {
			return true
		}
		off++
	}
}

// verify looks at all of a frame. It returns what is not as it was written, and leaves with the frame
// which entries are damaged.
func (v segmentView) verify(f *frame) (bad []flaw) {
	for _, at := range []int64{int64(f.off), f.backAt()} {
		bad = v.verifyBlock(bad, f, at)
	}
	for i := range f.ops {
		if o := &f.ops[i]; o.kind <= opCarried {
			bad = v.verifyEntry(bad, f, o)
		}
	}
	return bad
}

// flaw is a block or a chunk that is not as it was written.
type flaw struct {
	explained bool // by one flipped bit
}

func (v segmentView) verifyBlock(bad []flaw, f *frame, at int64) []flaw {
	b := v.from(at)
	if len(b) < int(f.block) {
		return append(bad, flaw{})
	}
	b = b[:f.block]
	whole := f.rebuild(v.nonce)
	if bytes.Equal(b, whole) {
		return bad
	}
	flips := 0
	for i := range b {
		for x := b[i] ^ whole[i]; x != 0; x &= x - 1 {
			flips++
		}
	}
	return append(bad, flaw{explained: flips == 1})
}

// rebuild is the block as it was written.
func (f *frame) rebuild(nonce uint64) []byte {
	c := *f
	return c.appendBlock(nil, nonce)
}

func (v segmentView) verifyEntry(bad []flaw, f *frame, o *frameOp) []flaw {
	off := f.bodyAt() + int64(o.off)
	for n := range chunks(int(o.size)) {
		key := entryKey(o.group, o.index, uint32(n))
		length := chunkOverhead + chunkLen(int(o.size), n)
		p := v.from(off)
		p = p[:min(length, len(p))]
		if _, err := openChunk(v.nonce, off, p, key); err != nil {
			f.damaged = append(f.damaged, damagedEntry{o.group, corruptLog(key, err)})
			bad = append(bad, flaw{explained: len(p) == length && !blankSector(p, off) && flippedBit(
				binary.BigEndian.Uint32(p)^chunkCRC(v.nonce, off, p[crcSize:]), length-crcSize)})
		}
		off += int64(length)
	}
	return bad
}
