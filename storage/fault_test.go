package storage_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/waystation/waystation/storage"
)

// failOnce fails the n-th operation that changes the disk, and lets all later ones succeed: as
// a kernel does that forgets a failed write-back once it has reported it.
type failOnce struct {
	n    int64
	seen atomic.Int64
	hit  atomic.Pointer[errorfs.Op]
}

func (f *failOnce) String() string { return "fail once" }

func (f *failOnce) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpFileWrite,
		errorfs.OpFileWriteAt, errorfs.OpCreate, errorfs.OpRename, errorfs.OpReuseForWrite, errorfs.OpFileClose:
		if f.seen.Add(1) == f.n {
			f.hit.Store(&op)
			return errorfs.ErrInjected
		}
	}
	return nil
}

// faultRun is one run of a workload on a disk on which one operation fails.
type faultRun struct {
	t     *testing.T
	disk  *vfs.MemFS
	once  *failOnce
	told  atomic.Int64
	cause atomic.Pointer[error]
}

func (r *faultRun) fs() storage.FS { return errorfs.Wrap(r.disk, r.once) }

func (r *faultRun) fatal(err error) {
	r.told.Add(1)
	r.cause.Store(&err)
}

// afterRestart is the disk that a loss of power leaves.
func (r *faultRun) afterRestart() storage.FS { return r.disk.CrashClone(vfs.CrashCloneCfg{}) }

// eachFault runs a workload with a failure at each of its operations in turn, until it ends
// without one.
func eachFault(t *testing.T, run func(r *faultRun)) {
	t.Helper()
	hits := 0
	for n := int64(1); ; n++ {
		r := &faultRun{t: t, disk: vfs.NewCrashableMem(), once: &failOnce{n: n}}
		run(r)
		if t.Failed() {
			t.Fatalf("failed with a failure at operation %d: %+v", n, r.once.hit.Load())
		}
		if r.once.hit.Load() == nil {
			break
		}
		hits++
	}
	if hits < 50 {
		t.Fatalf("only %d operations were made to fail", hits)
	}
}

// ended checks how a store ends that met a failure after it was opened.
func (r *faultRun) ended(fault, closed error) {
	r.t.Helper()
	if r.once.hit.Load() == nil {
		if fault != nil || closed != nil || r.told.Load() != 0 {
			r.t.Errorf("without a failure: fault %v, close %v, told %d times", fault, closed, r.told.Load())
		}
		return
	}
	if !errors.Is(fault, storage.ErrSync) || !errors.Is(fault, errorfs.ErrInjected) {
		r.t.Errorf("fault: %v, want ErrSync with its cause", fault)
	}
	if r.told.Load() != 1 || !errors.Is(*r.cause.Load(), storage.ErrSync) {
		r.t.Errorf("the owner was told %d times, with %v", r.told.Load(), r.cause.Load())
	}
}

func TestLogEveryWriteFails(t *testing.T) {
	eachFault(t, func(r *faultRun) {
		c := smallLog(r.fs())
		c.SegmentBytes, c.Fatal = 64<<10, r.fatal
		l, err := storage.OpenLog(c)
		acked := uint64(0)
		if err == nil {
			acked = appendUntilFault(r, l)
			closed := l.Close()
			r.ended(l.Fault(), closed)
		} else if r.told.Load() != 0 || !errors.Is(err, errorfs.ErrInjected) {
			r.t.Errorf("open: %v, told %d times", err, r.told.Load())
		}
		wantLogAfterRestart(r, acked)
	})
}

func appendUntilFault(r *faultRun, l *storage.Log) (acked uint64) {
	for index := uint64(1); index <= 20; index++ {
		b := l.NewBatch()
		b.Append(1, []storage.Entry{{Index: index, Term: 1, Data: binary.BigEndian.AppendUint64(make([]byte, 10_000), index)}})
		err := b.Commit(true)
		switch {
		case err == nil && l.Fault() == nil:
			acked = index
		case err != nil && !errors.Is(err, storage.ErrSync):
			r.t.Errorf("commit: %v, want ErrSync", err)
			return acked
		case err != nil:
			b = l.NewBatch()
			b.PutNode([]byte("again"), nil)
			if err := b.Commit(true); !errors.Is(err, storage.ErrSync) {
				r.t.Errorf("a second commit after a failed one: %v, want ErrSync", err)
			}
			return acked
		}
	}
	return acked
}

func wantLogAfterRestart(r *faultRun, acked uint64) {
	l, err := storage.OpenLog(smallLog(r.afterRestart()))
	if err != nil {
		r.t.Errorf("open after a restart: %v", err)
		return
	}
	defer func() { _ = l.Close() }()
	if _, last := l.Bounds(1); last < acked {
		r.t.Errorf("entry %d was acknowledged, the log ends at %d", acked, last)
	} else if acked > 0 {
		if _, err := l.Entries(1, 1, acked+1, 1<<40); err != nil {
			r.t.Error(err)
		}
	}
}

func TestStateEveryWriteFails(t *testing.T) {
	eachFault(t, func(r *faultRun) {
		c := smallState(r.fs())
		c.MemTableBytes, c.Fatal = 64<<10, r.fatal
		s, err := storage.OpenState(c)
		durable := 0
		if err == nil {
			durable = flushUntilFault(r, s)
			closed := s.Close()
			r.ended(s.Fault(), closed)
		} else if r.told.Load() != 0 || !errors.Is(err, errorfs.ErrInjected) {
			r.t.Errorf("open: %v, told %d times", err, r.told.Load())
		}
		s, err = storage.OpenState(smallState(r.afterRestart()))
		if err != nil {
			r.t.Errorf("open after a restart: %v", err)
			return
		}
		defer func() { _ = s.Close() }()
		if found := lastWritten(r.t, s); found < durable {
			r.t.Errorf("commit %d was durable, found %d", durable, found)
		}
	})
}

func lastWritten(t *testing.T, r storage.Reader) (n int) {
	v, err := r.Get([]byte("n"))
	if err == nil {
		_, err = fmt.Sscan(string(v), &n)
	}
	if err != nil && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrSync) {
		t.Error(err)
	}
	return n
}

// flushUntilFault returns the last commit that any answer of the store showed as durable.
func flushUntilFault(r *faultRun, s *storage.State) (durable int) {
	for n := 1; n <= 40; n++ {
		b := s.NewBatch()
		b.Set([]byte("n"), []byte(fmt.Sprint(n)))
		b.Set(fmt.Appendf(nil, "value %d", n%10), make([]byte, 5000))
		err := b.Commit()
		if err == nil && n%7 == 0 {
			if err = s.Flush(); err == nil {
				durable = n
			}
		}
		view, done := s.Durable()
		durable = max(durable, lastWritten(r.t, view))
		done()
		if err != nil {
			if !errors.Is(err, storage.ErrSync) {
				r.t.Errorf("commit or flush: %v, want ErrSync", err)
			}
			if err := s.Flush(); !errors.Is(err, storage.ErrSync) {
				r.t.Errorf("a second flush after a failed one: %v, want ErrSync", err)
			}
			return durable
		}
	}
	return durable
}
