package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
)

// Log holds the raft logs of all groups of a node in one store, so that one synced batch
// carries the entries of many groups. All methods may be called at the same time, with one
// exception: batches that touch the same group must be built and committed one after the
// other.
type Log struct {
	kv  LogKV
	log *slog.Logger

	mu     sync.RWMutex
	groups map[GroupID]*groupLog
	hurt   map[GroupID]error // what of a group is damaged
	lost   error             // what may have been lost of groups that nothing is known of

	metrics *metrics
	batches sync.Pool
}

// groupLog is what the log knows of a group without reading. Readers take the pointer;
// commits replace it.
type groupLog struct {
	bounds atomic.Pointer[bounds]
}

// bounds is immutable once published.
type bounds struct {
	truncated Position
	start     uint64 // stored bytes before the first entry
	last      Position
	end       uint64 // stored bytes up to and with the last entry
}

var noBounds = &bounds{}

// NewLog opens the log that a LogKV holds. The Log owns it from then on, and closes it.
func NewLog(kv LogKV, logger *slog.Logger) (*Log, error) {
	l := &Log{kv: kv, log: logger, groups: map[GroupID]*groupLog{}, hurt: map[GroupID]error{}}
	l.batches.New = func() any { return &LogBatch{log: l, touched: map[GroupID]*draft{}} }
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return l, nil
}

// group returns the group's state, or nil if nothing was ever written for it.
func (l *Log) group(g GroupID) *groupLog {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.groups[g]
}

func (l *Log) bounds(g GroupID) *bounds {
	if gl := l.group(g); gl != nil {
		return gl.bounds.Load()
	}
	return noBounds
}

func (l *Log) publish(g GroupID, b *bounds) {
	gl := l.group(g)
	if gl == nil {
		l.mu.Lock()
		if gl = l.groups[g]; gl == nil {
			gl = &groupLog{}
			gl.bounds.Store(noBounds)
			l.groups[g] = gl
		}
		l.mu.Unlock()
	}
	gl.bounds.Store(b)
}

// Bounds returns the index of the group's first and last entry; last is first-1 if there is
// none. It reads no disk.
func (l *Log) Bounds(g GroupID) (first, last uint64) {
	b := l.bounds(g)
	return b.truncated.Index + 1, b.last.Index
}

// Truncated returns the last entry that is gone; zero if none is. It reads no disk.
func (l *Log) Truncated(g GroupID) Position { return l.bounds(g).truncated }

// Damaged returns what of a group's records was found damaged, at the start or since, until DropGroup:
// an ErrCorrupt; nil if nothing was. Its replica must be quarantined. It reads no disk.
func (l *Log) Damaged(g GroupID) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.hurt[g]; err != nil || l.lost == nil {
		return err
	}
	if _, closer, err := l.kv.Get(groupKey(g, fieldReplica)); err == nil {
		_ = closer.Close() // it was recorded since
		return nil
	}
	return l.lost
}

func (l *Log) hurtBy(g GroupID, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hurt[g] == nil {
		l.hurt[g] = err
	}
}

func (l *Log) heal(g GroupID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.hurt, g)
}

// Bytes returns what the group's entries take, keys and headers included. It reads no disk.
func (l *Log) Bytes(g GroupID) int64 {
	b := l.bounds(g)
	return int64(b.end - b.start)
}

// DiskBytes returns the space that the whole log takes on disk.
func (l *Log) DiskBytes() int64 { return l.kv.DiskBytes() }

// Fault returns the first failure after which nothing is certain any more, or nil.
func (l *Log) Fault() error { return l.kv.Fault() }

// Close closes the store. Nothing may be in use any more. A second call does nothing.
func (l *Log) Close() error {
	l.metrics.close()
	if err := l.kv.Close(); err != nil && !errors.Is(err, ErrClosed) {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}
