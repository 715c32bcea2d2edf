package storage_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/waystation/waystation/storage"
)

// moment is a disk as a loss of power just before a sync leaves it, and what had been
// acknowledged by then.
type moment struct {
	what  string
	disk  storage.FS
	acked uint64
}

// powerCuts takes a copy of the disk at every sync of every file, in tables, manifests,
// folders and write-ahead logs, from whatever goroutine it comes.
type powerCuts struct {
	mem   *vfs.MemFS
	acked atomic.Uint64
	mu    sync.Mutex
	rng   *rand.Rand
	cuts  []moment
}

func (p *powerCuts) String() string { return "power cuts" }

func (p *powerCuts) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		p.mu.Lock()
		defer p.mu.Unlock()
		acked := p.acked.Load()
		disk := p.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: p.rng.IntN(101), RNG: p.rng})
		p.cuts = append(p.cuts, moment{fmt.Sprintf("cut %d, before the sync of %s", len(p.cuts), op.Path), disk, acked})
	}
	return nil
}

// cutFS keeps a copy of the disk from being taken within ReuseForWrite: MemFS would block for
// ever, as it takes a lock there twice for reading.
type cutFS struct {
	vfs.FS
	cuts *powerCuts
}

func (f cutFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f.cuts.mu.Lock()
	defer f.cuts.mu.Unlock()
	return f.FS.ReuseForWrite(from, to, c)
}

// TestCrashAtEverySync keeps log and state as the engine does, and starts again from the disk
// of every moment.
func TestCrashAtEverySync(t *testing.T) {
	for seed := range uint64(4) {
		p := &powerCuts{mem: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(seed, 6))}
		runDisciplined(t, p, cutFS{errorfs.Wrap(p.mem, p), p})
		if len(p.cuts) < 50 {
			t.Fatalf("only %d syncs", len(p.cuts))
		}
		for _, m := range p.cuts {
			startAgain(t, m)
		}
	}
}

func runDisciplined(t *testing.T, p *powerCuts, fs storage.FS) {
	t.Helper()
	logConfig, stateConfig := smallLog(fs), smallState(fs)
	logConfig.SegmentBytes, stateConfig.MemTableBytes = 64<<10, 64<<10
	l, err := storage.OpenLog(logConfig)
	if err != nil {
		t.Fatal(err)
	}
	s, err := storage.OpenState(stateConfig)
	if err != nil {
		t.Fatal(err)
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for index := uint64(1); index <= 40; index++ {
		b := l.NewBatch()
		b.Append(1, []storage.Entry{{Index: index, Term: 1, Data: entryOf(index)}})
		check(b.Commit(true))
		p.acked.Store(index)
		applied := s.NewBatch()
		applied.Set([]byte("applied"), binary.BigEndian.AppendUint64(nil, index))
		applied.Set(fmt.Appendf(nil, "effect %d", index), make([]byte, 2000))
		check(applied.Commit())
		if index%9 == 0 {
			check(s.Flush())
		}
		if index%4 == 0 {
			view, done := s.Durable()
			b := l.NewBatch()
			b.Truncate(1, storage.Position{Index: appliedOf(t, view), Term: 1})
			check(b.Commit(false))
			done()
		}
	}
	check(errors.Join(s.Close(), l.Close()))
}

func entryOf(index uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, index%45*1000), index)
}

func appliedOf(t *testing.T, r storage.Reader) uint64 {
	t.Helper()
	v, err := r.Get([]byte("applied"))
	if errors.Is(err, storage.ErrNotFound) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return binary.BigEndian.Uint64(v)
}

func startAgain(t *testing.T, m moment) {
	t.Helper()
	l, err := storage.OpenLog(smallLog(m.disk))
	if err != nil {
		t.Fatalf("%s: %v", m.what, err)
	}
	defer func() { _ = l.Close() }()
	s, err := storage.OpenState(smallState(m.disk))
	if err != nil {
		t.Fatalf("%s: %v", m.what, err)
	}
	defer func() { _ = s.Close() }()
	first, last := l.Bounds(1)
	applied := appliedOf(t, s)
	if last < m.acked {
		t.Fatalf("%s: entry %d was acknowledged, the log ends at %d", m.what, m.acked, last)
	}
	if applied+1 < first || applied > last {
		t.Fatalf("%s: applied %d, the log holds %d to %d", m.what, applied, first, last)
	}
	if first <= last {
		es, err := l.Entries(1, first, last+1, 1<<40)
		if err != nil {
			t.Fatalf("%s: %v", m.what, err)
		}
		for _, e := range es {
			if string(e.Data) != string(entryOf(e.Index)) {
				t.Fatalf("%s: entry %d differs", m.what, e.Index)
			}
		}
	}
	for index := uint64(1); index <= applied; index++ {
		if _, err := s.Get(fmt.Appendf(nil, "effect %d", index)); err != nil {
			t.Fatalf("%s: applied %d without effect %d: %v", m.what, applied, index, err)
		}
	}
}

// TestCarryCrashAtEverySync has a group whose few entries are carried from segment to segment, and starts
// again from the disk of every moment.
func TestCarryCrashAtEverySync(t *testing.T) {
	p := &powerCuts{mem: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(9, 6))}
	c := smallLog(cutFS{errorfs.Wrap(p.mem, p), p})
	c.SegmentBytes = 64 << 10
	l, err := storage.OpenLog(c)
	if err != nil {
		t.Fatal(err)
	}
	const slow = 12
	for index := uint64(1); index <= 50; index++ {
		b := l.NewBatch()
		if index <= slow {
			b.Append(1, []storage.Entry{{Index: index, Term: 1, Data: entryOf(index % 5)}})
		}
		b.Append(2, []storage.Entry{{Index: index, Term: 1, Data: make([]byte, 30_000)}})
		if index > 3 {
			b.Truncate(2, storage.Position{Index: index - 2, Term: 1})
		}
		if err := b.Commit(true); err != nil {
			t.Fatal(err)
		}
		p.acked.Store(index)
	}
	if got := l.DiskBytes(); got > 24*c.SegmentBytes {
		t.Fatalf("%d bytes on disk: nothing was carried", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if len(p.cuts) < 60 {
		t.Fatalf("only %d syncs", len(p.cuts))
	}
	for _, m := range p.cuts {
		l, err := storage.OpenLog(smallLog(m.disk))
		if err != nil {
			t.Fatalf("%s: %v", m.what, err)
		}
		if _, last := l.Bounds(2); last < m.acked {
			t.Fatalf("%s: entry %d was acknowledged, the log ends at %d", m.what, m.acked, last)
		}
		for index := uint64(1); index <= min(m.acked, slow); index++ {
			es, err := l.Entries(1, index, index+1, 0)
			if err != nil || string(es[0].Data) != string(entryOf(index%5)) {
				t.Fatalf("%s: entry %d: %v", m.what, index, err)
			}
		}
		if err := errors.Join(l.Damaged(1), l.Damaged(2), l.Close()); err != nil {
			t.Fatalf("%s: %v", m.what, err)
		}
	}
}

// TestTruncationRace reads while the log is truncated: a reader gets what it asked for, or
// ErrCompacted. Anything else makes raft panic, or reports damage where there is none.
func TestTruncationRace(t *testing.T) {
	l, err := storage.OpenLog(smallLog(vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	const entries = 200
	var done atomic.Bool
	var readers sync.WaitGroup
	for reader := range 2 {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(reader), 7))
			for !done.Load() {
				first, last := l.Bounds(1)
				if last < first {
					continue
				}
				index := first + r.Uint64N(last-first+1)
				es, err := l.Entries(1, index, index+1, 0)
				wantOrCompacted(t, err, func() bool { return string(es[0].Data) == string(entryOf(index)) })
				part, err := l.ReadAt(1, index, int(index%45)*1000, 8, nil)
				wantOrCompacted(t, err, func() bool { return binary.BigEndian.Uint64(part) == index })
				term, err := l.Term(1, index)
				wantOrCompacted(t, err, func() bool { return term == 1 })
			}
		})
	}
	for index := uint64(1); index <= entries; index++ {
		b := l.NewBatch()
		b.Append(1, []storage.Entry{{Index: index, Term: 1, Data: entryOf(index)}})
		if index > 2 {
			b.Truncate(1, storage.Position{Index: index - 2, Term: 1})
		}
		if err := b.Commit(index%8 == 0); err != nil {
			t.Error(err)
		}
	}
	done.Store(true)
	readers.Wait()
}

func wantOrCompacted(t *testing.T, err error, right func() bool) {
	if err != nil && !errors.Is(err, storage.ErrCompacted) {
		t.Error(err)
	}
	if err == nil && !right() {
		t.Error("a read that raced a truncation is wrong")
	}
}
