package storage

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// blockChecker is a file in memory that takes whole blocks only, and where nothing but the last block of
// what was written may be written again, with what it had.
type blockChecker struct {
	t    *testing.T
	data []byte
	end  int64 // of what was asked for
}

func (c *blockChecker) WriteAt(p []byte, off int64) (int, error) {
	if off%blockSize != 0 || len(p)%blockSize != 0 || len(p) == 0 {
		c.t.Fatalf("%d bytes at %d", len(p), off)
	}
	if kept := c.end - off; kept < 0 || kept >= blockSize || !bytes.Equal(c.data[off:c.end], p[:kept]) {
		c.t.Fatalf("what was there up to %d is not written again at %d", c.end, off)
	}
	c.data = append(c.data[:off], p...)
	c.end = off + int64(len(p)) // less what it is filled up with, which the caller knows
	return len(p), nil
}

func TestBlockWriter(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 30 {
		w := newBlockWriter(1)
		c := &blockChecker{t: t}
		var want []byte
		for len(want) < 3*len(w.buf) {
			p := make([]byte, []int{1, 100, blockSize, len(w.buf), 2 * len(w.buf)}[rng.IntN(5)]-rng.IntN(2)+rng.IntN(2))
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			off := int64(len(want))
			want = append(want, p...)
			if err := w.write(c, p, off); err != nil {
				t.Fatal(err)
			}
			c.end = int64(len(want))
			if !bytes.Equal(c.data[:len(want)], want) {
				t.Fatalf("differs after %d bytes at %d", len(p), off)
			}
			if rest := c.data[len(want):]; len(rest) >= blockSize || !bytes.Equal(rest, make([]byte, len(rest))) {
				t.Fatalf("%d bytes behind, not all zero", len(rest))
			}
		}
	}
}

// On a real disk, what is written past the page cache is what is read through it, all the time: while
// blocks are filled up, from one segment to the next, over what a file had before, and after a start.
func TestWrittenPastTheCacheIsRead(t *testing.T) {
	c := DefaultLogConfig(t.TempDir())
	c.Logger, c.SegmentBytes = slog.New(slog.DiscardHandler), 128<<10
	l, err := OpenLog(c)
	if err != nil {
		t.Fatal(err)
	}
	data := func(i uint64) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8), 7}, int(i%700)) }
	check := func(l *Log, i uint64) {
		ents, err := l.Entries(1, i, i+1, 1<<20)
		if errors.Is(err, ErrCompacted) {
			return
		}
		if err != nil || len(ents) != 1 || !bytes.Equal(ents[0].Data, data(i)) {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	var last atomic.Uint64
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for seed := range uint64(3) {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if n := last.Load(); n > 0 {
					check(l, n-rng.Uint64N(min(n, 60))) // the newest most of all
				}
			}
		})
	}
	const entries = 600
	for i := uint64(1); i <= entries; i++ {
		b := l.NewBatch()
		b.Append(1, []Entry{{Index: i, Term: 1, Data: data(i)}})
		if i%50 == 0 {
			b.Truncate(1, Position{Index: i - 40, Term: 1})
		}
		if err := b.Commit(i%10 == 0); err != nil {
			t.Fatal(err)
		}
		last.Store(i)
	}
	close(stop)
	readers.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = OpenLog(c); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if _, got := l.Bounds(1); got != entries {
		t.Fatalf("%d entries", got)
	}
	for i := uint64(1); i <= entries; i++ {
		check(l, i)
	}
}

// A file system that wants more than blocks of 4 KiB for writes past its cache gets the others.
func TestWriteThatTheFileSystemRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	file, err := vfs.Default.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	s := openSegment(path, segmentHeader{}, file)
	s.direct = openDirect(path, file)
	odd := []byte("neither a block, nor where one begins")
	if _, err := s.WriteAt(odd, 3); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got[3:], odd) {
		t.Fatalf("%q, %v", got, err)
	}
	if err := s.release(); err != nil {
		t.Fatal(err)
	}
}
