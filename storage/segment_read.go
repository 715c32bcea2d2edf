package storage

import (
	"errors"
	"io"
	"sync"
)

// pin returns a segment, which must be released; nil if it is gone.
func (l *segmentLog) pinLocked(number uint32) *segment {
	if len(l.segments) == 0 || number < l.segments[0].header.number {
		return nil
	}
	i := int(number - l.segments[0].header.number)
	if i >= len(l.segments) {
		return nil
	}
	l.segments[i].users.Add(1)
	return l.segments[i]
}

func (l *segmentLog) unpin(s *segment) {
	if err := s.release(); err != nil {
		_ = l.faults.set(err)
	}
}

// locate returns where an entry lies, and the segment. Of an entry that is known to be damaged there
// is no segment. Without such an entry: ErrNotFound.
func (l *segmentLog) locate(g GroupID, index uint64) (place, *segment, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	p, ok := l.index.find(g, index)
	switch {
	case !ok:
		return p, nil, ErrNotFound
	case p.segment == 0:
		return p, nil, nil
	}
	s := l.pinLocked(p.segment)
	if s == nil {
		return p, nil, ErrClosed
	}
	return p, s, nil
}

// Get implements LogKV. Of an entry it reads one chunk.
func (l *segmentLog) Get(key []byte) ([]byte, io.Closer, error) {
	if err := l.faults.get(); err != nil {
		return nil, nil, err
	}
	g, index, ok := parseEntryKey(key)
	if !ok {
		return l.getSmall(key)
	}
	p, s, err := l.locate(g, index)
	if err != nil {
		return nil, nil, err
	}
	if s == nil {
		return nil, nil, corruptLog(key, errDamaged)
	}
	defer l.unpin(s)
	n := chunkOf(key)
	length := chunkLen(int(p.size), n)
	if length < 0 {
		return nil, nil, ErrNotFound
	}
	b := getChunkBuffer()
	buf := (*b)[:chunkOverhead+length]
	off := int64(p.off) + int64(n)*chunkStride
	value, err := readChunk(s, off, buf, key)
	if err != nil {
		return nil, nil, errors.Join(err, b.Close())
	}
	return value, b, nil
}

var errDamaged = errors.New("it was found damaged before")

func readChunk(s *segment, off int64, buf, key []byte) ([]byte, error) {
	if err := readFull(s, off, buf, key); err != nil {
		return nil, err
	}
	value, err := openChunk(s.header.nonce, off, buf, key)
	if err != nil {
		return nil, corruptLog(key, err)
	}
	return value, nil
}

// readFull reads what must be there.
func readFull(s *segment, off int64, buf, key []byte) error {
	n, err := s.file.ReadAt(buf, off)
	switch {
	case n == len(buf):
		return nil
	case errors.Is(err, io.EOF):
		return corruptLog(key, errMissing)
	}
	return &fileError{"read", s.path, err}
}

func (l *segmentLog) getSmall(key []byte) ([]byte, io.Closer, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	r, ok := l.index.smalls[string(key)]
	if !ok {
		return nil, nil, ErrNotFound
	}
	return r.value, nothingToClose{}, nil
}

type nothingToClose struct{}

func (nothingToClose) Close() error { return nil }

// chunkBuffer is where a chunk is read into. Closing gives it back.
type chunkBuffer []byte

func getChunkBuffer() *chunkBuffer { return chunkBuffers.Get().(*chunkBuffer) }

// chunkBuffers hold no state: a buffer of one log serves another.
var chunkBuffers = sync.Pool{New: func() any {
	b := make(chunkBuffer, chunkStride)
	return &b
}}

func (b *chunkBuffer) Close() error {
	chunkBuffers.Put(b)
	return nil
}
