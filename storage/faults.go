package storage

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// faults remembers the first failure of a store and tells the owner of the process. From
// then on the store refuses all commits, flushes and reads. It is also Pebble's logger: what
// Pebble takes for the end of the process is a fault, and its Fatalf returns here.
type faults struct {
	name  string
	log   *slog.Logger
	fatal func(error)
	first atomic.Pointer[error]
	watch *watcher    // of damaged tables; nil: a compaction that meets one is a fault
	armed atomic.Bool // open: until then a fault is returned, and fatal is not called
}

func (f *faults) get() error {
	if err := f.first.Load(); err != nil {
		return *err
	}
	return nil
}

// arm lets the owner of the process be told from now on, and returns what came before.
func (f *faults) arm() error {
	f.armed.Store(true)
	return f.get()
}

// or returns the first fault, or else err: what Pebble makes of a fault says less than the fault.
func (f *faults) or(err error) error {
	if fault := f.get(); fault != nil {
		return fault
	}
	return err
}

// set returns the first fault, which is err if there was none.
func (f *faults) set(err error) error {
	err = fmt.Errorf("%w: %s: %w", ErrSync, f.name, err)
	if f.first.Load() != nil || !f.first.CompareAndSwap(nil, &err) {
		return f.get()
	}
	if !f.armed.Load() {
		return err
	}
	f.log.Error("storage failed, the node must stop", "store", f.name, "error", err)
	if f.fatal != nil {
		f.fatal(err)
	}
	return err
}

// Infof, Errorf and Fatalf make faults Pebble's logger.

func (f *faults) Infof(format string, args ...any) {
	f.log.Debug("pebble", "store", f.name, "says", fmt.Sprintf(format, args...))
}

func (f *faults) Errorf(format string, args ...any) {
	f.log.Error("pebble", "store", f.name, "says", fmt.Sprintf(format, args...))
}

func (f *faults) Fatalf(format string, args ...any) {
	_ = f.set(fmt.Errorf(format, args...)) //nolint:err113 // Pebble's own words
}

// listener reports what fails in the background: a flush or compaction that cannot be
// written, a damaged table that a compaction meets.
func (f *faults) listener() *pebble.EventListener {
	l := &pebble.EventListener{
		BackgroundError: f.background,
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			f.log.Error("table damaged", "store", f.name, "file", info.Path, "error", info.Details)
			if f.watch != nil {
				f.watch.saw(&info, false, info.Details)
			}
		},
		CompactionEnd: func(info pebble.CompactionInfo) {
			switch {
			case f.watch == nil:
			case info.Err == nil:
				f.watch.compactions.worked()
			case pebble.IsCorruptionError(info.Err):
				f.watch.compactions.failed()
			}
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			f.log.Warn("writes stalled", "store", f.name, "reason", info.Reason)
		},
	}
	return l
}

// background takes what flushes and compactions meet. Pebble tries them again for ever. Damage
// that they meet need not be the end: the group that it hurts may be known.
func (f *faults) background(err error) {
	switch {
	case !pebble.IsCorruptionError(err):
		_ = f.set(err)
	case f.watch == nil:
		_ = f.set(&CorruptError{Store: f.name, What: "a table", Err: err})
	default:
		f.watch.saw(pebble.ExtractDataCorruptionInfo(err), true, err)
	}
}
