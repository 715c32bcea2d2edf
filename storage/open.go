package storage

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// pebbleFormat is Pebble's own format. It may only rise, and never fall below
// FormatWALSyncChunks: before that one, a flipped bit in the newest write-ahead log reads as
// its clean end, and what was acknowledged behind it is gone without a word.
const pebbleFormat = pebble.FormatValueSeparation

// OpenLog opens or creates the log in cfg.Dir. A folder of another format is refused with
// ErrFormat; damage that shows at once and cannot be put down to groups is ErrCorrupt. What can be,
// Log.Damaged tells.
func OpenLog(cfg LogConfig) (*Log, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	f := &faults{name: "log", log: cfg.Logger, fatal: cfg.Fatal}
	m := newMetrics(cfg.Registerer)
	c := segmentConfig{
		fs: cfg.FS, dir: cfg.Dir, target: cfg.SegmentBytes, log: cfg.Logger, faults: f,
		synced: m.observeSync, damaged: cfg.Damaged, nonce: cfg.nonce,
	}
	kv, err := openSegmentLog(c)
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", cfg.Dir, err)
	}
	l, err := NewLog(kv, cfg.Logger)
	if err == nil {
		l.metrics = m
		err = errors.Join(m.register(l), f.arm())
	}
	if err != nil {
		_ = kv.Close() // the first error is the one to tell
		return nil, err
	}
	return l, nil
}

// OpenState opens or creates the state in cfg.Dir, with the same errors as OpenLog.
func OpenState(cfg StateConfig) (*State, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	o := baseOptions(cfg.FS, cfg.CacheBytes, cfg.MemTableBytes, cfg.MemTables)
	o.DisableWAL = true
	// An ingest on top of the memtables would not be durable, and its errors would be found by a
	// flush, which ends the process: see pebbleKV.Install.
	o.Experimental.DisableIngestAsFlushable = func() bool { return true }
	f := &faults{name: "state", log: cfg.Logger, fatal: cfg.Fatal}
	if cfg.Damaged != nil {
		f.watch = newWatcher(&cfg, cfg.Dir, f)
		o.Experimental.CompactionScheduler = f.watch.compactions
	}
	pace := &gentle{}
	o.FS = &gentleFS{FS: o.FS, pace: pace}
	kv, err := openPebble("state", StateFormat, cfg.Dir, o, f)
	if err != nil {
		return nil, err
	}
	s := NewState(kv, cfg.Logger)
	s.pace = pace
	return s, nil
}

// baseOptions are for a node with two cores and more. BenchmarkStateBatch and BenchmarkStateGet
// are what to measure a change of them with.
func baseOptions(fs FS, cache int64, memTable uint64, memTables int) *pebble.Options {
	if fs == nil {
		fs = vfs.Default
	}
	o := &pebble.Options{
		FS: fs,
		// Pebble takes memtables out of the block cache's budget: without room for them there
		// is no cache at all as soon as two are filled, and each point read costs a filter block.
		Cache:                       pebble.NewCache(cache + int64(memTables)*int64(memTable)),
		FormatMajorVersion:          pebbleFormat,
		MemTableSize:                memTable,
		MemTableStopWritesThreshold: memTables,
		L0CompactionThreshold:       8,
		L0StopWritesThreshold:       32,
	}
	o.EnsureDefaults()
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
	}
	return o
}

func openPebble(name string, format int, dir string, o *pebble.Options, f *faults) (*pebbleKV, error) {
	fail := func(err error) (*pebbleKV, error) {
		o.Cache.Unref()
		return nil, fmt.Errorf("open %s in %s: %w", name, dir, err)
	}
	o.FS = &faultFS{FS: o.FS, faults: f}
	if err := f.or(checkFormat(o.FS, dir, name, format)); err != nil {
		return fail(err)
	}
	o.Logger = f
	o.EventListener = f.listener()
	kv := &pebbleKV{name: name, cache: o.Cache, faults: f}
	if err := kv.open(dir, o); err != nil {
		return fail(err)
	}
	f.watch.start(kv.db, o.FS, o.MakeReaderOptions())
	if err := f.arm(); err != nil {
		_ = kv.Close() // the fault says more
		return nil, fmt.Errorf("open %s in %s: %w", name, dir, err)
	}
	return kv, nil
}
