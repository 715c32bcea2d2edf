package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const witnessFile = "SYNCED"

// witness keeps, in a file of its own, the sequence number of the last batch that was synced, or,
// without a write-ahead log, flushed.
//
// A start cannot tell from Pebble's write-ahead log alone whether its end was torn by a loss
// of power, or was whole and was damaged since: both end in a chunk whose checksum is wrong.
// Sync offsets in later chunks help, but Pebble (2.1.7) looks for them from the next block of
// 32 KiB on, and does not count full blocks in them, so most of what a large batch holds is
// not vouched for. With the witness a log that lost what it had acknowledged is refused.
//
// The manifest has the same hole: a damaged record in it reads as its torn end, and the tables that
// it names are gone without a word.
//
// The file is written after each sync and not synced itself: that would double the cost. It
// is exact when a process was killed; after a loss of power it is as old as the kernel's last
// write-back, and what it says then still holds. After a flush, which is rare, it is synced.
type witness struct {
	mu   sync.Mutex
	file vfs.File
	seq  uint64

	synced uint64 // what a loss of power leaves
}

const witnessSize = 8 + 4

// openWitness returns the witness of a folder. Its number is zero if there was none, or if a
// loss of power tore it.
func openWitness(fs FS, dir string) (*witness, error) {
	f, err := fs.OpenReadWrite(fs.PathJoin(dir, witnessFile), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("open witness: %w", err)
	}
	w := &witness{file: f}
	var b [witnessSize]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(fmt.Errorf("read witness: %w", err), f.Close())
	}
	if n == witnessSize && binary.BigEndian.Uint32(b[8:]) == crc32.Checksum(b[:8], castagnoli) {
		w.seq = binary.BigEndian.Uint64(b[:])
	}
	return w, nil
}

// saw is called after every sync, in any order.
func (w *witness) saw(seq uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if seq <= w.seq {
		return nil
	}
	w.seq = seq
	var b [witnessSize]byte
	binary.BigEndian.PutUint64(b[:], seq)
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[:8], castagnoli))
	if _, err := w.file.WriteAt(b[:], 0); err != nil {
		return &fileError{"write", witnessFile, err}
	}
	return nil
}

// sync is saw for a flush.
func (w *witness) sync(seq uint64) {
	_ = w.saw(seq) // a failure is a fault, which the file system notes
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.synced != w.seq {
		_ = w.file.Sync() // as above
		w.synced = w.seq
	}
}

// check refuses a database whose next batch would get the number next.
func (w *witness) check(store string, next uint64) error {
	if next > w.seq {
		return nil
	}
	return &CorruptError{
		Store: store, What: "database",
		Err: fmt.Errorf("it ends before number %d, but number %d was synced", next, w.seq),
	}
}

func (w *witness) close() error {
	if w == nil {
		return nil
	}
	return w.file.Close()
}
