package storage

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// segmentLog is what a Log stands on: a LogKV of segment files. What a commit brings is written once,
// at the end of the newest file, and read from there. In memory is where each entry lies, and the
// small records.
//
// A commit is one write and, if asked for, one sync. Segments go from the oldest on, so that what is
// on disk is always the end of one history, and replaying it needs no more than that. A segment goes
// once no entry in it is alive; its small records are written again before. Where a few entries that
// live long hold many segments back, these are written again too (segment_carry.go).
type segmentLog struct {
	fs     FS
	dir    string
	target int64 // a segment that is longer is followed by the next one
	log    *slog.Logger
	faults *faults
	synced func(time.Duration)
	// damaged is told of groups whose entries turn out to be damaged when they are carried.
	damaged func(Damage)
	nonce   func() uint64

	// writing is held by the one who writes, also while the disk works: it is the queue for the
	// file's end. What it guards no reader needs.
	writing sync.Mutex
	seq     uint64 // of the last frame
	durable uint64 // the last frame that was synced
	witness *witness
	spares  []spare
	leaving []leaving
	closed  bool
	blocks  *blockWriter
	free    freeList[segmentBatch]

	mu       sync.RWMutex // of what readers look at; never held while the disk works
	index    *segmentIndex
	segments []*segment // from the oldest that is needed to the one that is written
	spared   int64      // bytes of spares and of what leaves
}

// segmentConfig is what a segmentLog needs of a LogConfig.
type segmentConfig struct {
	fs      FS
	dir     string
	target  int64
	log     *slog.Logger
	faults  *faults
	synced  func(time.Duration)
	damaged func(Damage)
	nonce   func() uint64 // nil: random
}

func newSegmentLog(c segmentConfig) *segmentLog {
	l := &segmentLog{
		fs: c.fs, dir: c.dir, target: c.target, log: c.log, faults: c.faults,
		synced: c.synced, damaged: c.damaged, nonce: c.nonce, index: newSegmentIndex(),
		blocks: newBlockWriter(c.target / 16),
	}
	if l.fs == nil {
		l.fs = vfs.Default
	}
	if l.nonce == nil {
		l.nonce = randomNonce
	}
	if l.synced == nil {
		l.synced = func(time.Duration) {}
	}
	return l
}

func randomNonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}

func (l *segmentLog) active() *segment { return l.segments[len(l.segments)-1] }

// commit writes a batch as one frame. Whoever waits for a sync waits for all frames before.
func (l *segmentLog) commit(b *segmentBatch, sync bool) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.ready(); err != nil {
		return err
	}
	if len(b.ops) == 0 {
		return nil
	}
	if err := b.gather(); err != nil {
		return err
	}
	err := l.carry(int64(b.Len()))
	if err == nil {
		err = l.write(b)
	}
	if err == nil && sync {
		err = l.sync(l.synced)
	}
	if err == nil && sync {
		err = l.retire()
	}
	if err != nil {
		return l.faults.set(fmt.Errorf("commit: %w", err))
	}
	return nil
}

func (l *segmentLog) ready() error {
	if err := l.faults.get(); err != nil {
		return err
	}
	if l.closed {
		return ErrClosed
	}
	return nil
}

// write appends a frame to the newest segment, or to a new one, and makes it seen.
func (l *segmentLog) write(b *segmentBatch) error {
	s := l.active()
	if s.end.Load() > segmentStart && s.end.Load()+int64(b.Len()) > l.target {
		next, err := l.rotate()
		if err != nil {
			return err
		}
		s = next
	}
	f := frame{seq: l.seq + 1, synced: l.durable, off: uint32(s.end.Load()), first: l.oldest()}
	if err := b.seal(&f, s.header.nonce); err != nil {
		return err
	}
	s.allocate(f.end(), l.target)
	if err := l.blocks.write(s, b.bytes(), int64(f.off)); err != nil {
		return &fileError{"write", s.path, err}
	}
	l.seq = f.seq
	s.end.Store(f.end())
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.index.apply(s.header.number, f.bodyAt(), &f)
}

// oldest is the oldest segment that is needed, which each frame says: what is older may then go.
func (l *segmentLog) oldest() uint32 { return l.segments[0].header.number }

// sync makes all frames durable that were written.
func (l *segmentLog) sync(observe func(time.Duration)) error {
	s := l.active()
	begin := time.Now()
	if err := s.file.SyncData(); err != nil {
		return &fileError{"sync", s.path, err}
	}
	observe(time.Since(begin))
	l.durable = l.seq
	return l.witness.saw(l.seq)
}

// rotate begins the next segment. What the one before has is durable first: its end is written down
// in the next one's header, and up to there nothing of it may be missing from then on.
func (l *segmentLog) rotate() (*segment, error) {
	if l.durable != l.seq {
		if err := l.sync(func(time.Duration) {}); err != nil {
			return nil, err
		}
	}
	last := l.active()
	s, err := l.create(segmentHeader{
		number: last.header.number + 1, first: l.oldest(), prevEnd: uint32(last.end.Load()),
		nonce: l.nonce(), seq: l.seq + 1,
	})
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segments = append(l.segments, s)
	return s, nil
}

// DiskBytes is what all files hold.
func (l *segmentLog) DiskBytes() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	total := l.spared
	for _, s := range l.segments {
		total += s.end.Load()
	}
	return total
}

// Fault implements LogKV.
func (l *segmentLog) Fault() error { return l.faults.get() }

// Close makes nothing durable that was not.
func (l *segmentLog) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.closed {
		return ErrClosed
	}
	l.closed = true
	return l.faults.or(l.closeFiles())
}

// closeFiles closes what is open. A file that cannot be closed may not hold what was written to it.
func (l *segmentLog) closeFiles() error {
	l.mu.Lock()
	all := l.segments
	l.segments = nil
	l.mu.Unlock()
	var errs []error
	for _, s := range all {
		errs = append(errs, s.release())
	}
	errs = append(errs, l.witness.close())
	if err := errors.Join(errs...); err != nil {
		return l.faults.set(fmt.Errorf("close: %w", err))
	}
	return nil
}
