package storage

import (
	"errors"
	"io"
	"syscall"
	"unsafe"
)

// blockSize is what is written at a time, at the least, and where it begins: what every disk takes that
// is written past the kernel's page cache.
const blockSize = 4096

// mostBlocks is how much is written at a time at the most, in bytes.
const mostBlocks = 1 << 20

// blockWriter writes what follows one another in whole blocks. The last one is filled up with zeros, and
// written again, with what follows, by the next write: as the page cache does it too. What is written
// again is the same, so that a block that is torn has it in any case.
type blockWriter struct {
	buf  []byte // its first bytes are what the file has of the block that comes next
	kept int    // so many
}

func newBlockWriter(size int64) *blockWriter {
	n := int(min(max(size, 16*blockSize), mostBlocks)) &^ (blockSize - 1)
	b := make([]byte, n+blockSize)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (blockSize - 1)
	return &blockWriter{buf: b[skip : skip+n]}
}

// restart has the next write begin at the beginning of a block.
func (w *blockWriter) restart() { w.kept = 0 }

// write puts p at off, which is where the last write ended.
func (w *blockWriter) write(to io.WriterAt, p []byte, off int64) error {
	for len(p) > 0 {
		n := copy(w.buf[w.kept:], p)
		used := w.kept + n
		filled := (used + blockSize - 1) &^ (blockSize - 1)
		clear(w.buf[used:filled])
		if _, err := to.WriteAt(w.buf[:filled], off-int64(w.kept)); err != nil {
			return err
		}
		off, p = off+int64(n), p[n:]
		w.kept = copy(w.buf, w.buf[used&^(blockSize-1):used])
	}
	return nil
}

// WriteAt writes whole blocks, past the page cache where that can be: what the log writes is hardly ever
// read, and each new page of the cache costs more than the copy into it. Readers go through the cache,
// which the kernel keeps in step. They are told of what is written only when it is.
func (s *segment) WriteAt(p []byte, off int64) (int, error) {
	if s.direct != nil {
		n, err := s.direct.WriteAt(p, off)
		if !errors.Is(err, syscall.EINVAL) {
			return n, err
		}
		// This file system wants something else of such writes. Nothing was written.
		err = s.direct.Close()
		s.direct = nil
		if err != nil {
			return 0, err
		}
	}
	return s.file.WriteAt(p, off)
}
