package storage

import (
	"errors"
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
)

// FS is the file system that a store lives on. Tests pass a vfs.MemFS; nil is the disk.
type FS = vfs.FS

// LogConfig says where the log lives and how much memory it takes.
type LogConfig struct {
	FS     FS     // nil: the disk
	Dir    string // of the log alone; created if absent
	Logger *slog.Logger
	// Registerer takes waystation_fsync_duration_seconds and others; nil: no metrics.
	Registerer prometheus.Registerer
	// Fatal is called once, from any goroutine, with the first failure after which the
	// process must end. It must not block for ever, and must not call the store.
	Fatal func(error)
	// Damaged is called, from a commit, with each group of which an entry turns out to be damaged
	// when it is moved to a newer file; nil: nobody is. It must not block for long, and must not call
	// the store. What a start finds, and what was told of, Log.Damaged has.
	Damaged func(Damage)

	// SegmentBytes is how long a file grows before the next one begins; up to some of them are kept
	// beyond what is needed, so that what is written goes over what was. Each node needs room on
	// disk for at least four.
	SegmentBytes int64

	nonce func() uint64 // of each file; nil: random
}

// StateConfig says where the state lives and how much memory it takes.
type StateConfig struct {
	FS     FS     // nil: the disk
	Dir    string // of the state alone; created if absent
	Logger *slog.Logger
	// Fatal is called once, from any goroutine, with the first failure after which the
	// process must end. It must not block for ever, and must not call the store.
	Fatal func(error)
	// Groups returns where each group's keys lie, from any goroutine; Damaged is called once for
	// each group whose records turn out to be damaged, until State.Install has replaced them. It
	// must not block for long, and must not call the store. Both or neither: without them, a
	// damage that a compaction meets is a failure after which the process must end; with them,
	// only one is that cannot be put down to groups.
	Groups  func() []GroupRange
	Damaged func(Damage)

	CacheBytes    int64  // block cache; what the memtables do not use serves as cache too
	MemTableBytes uint64 // one of at most MemTables, which together hold what is not flushed
	MemTables     int    // beyond these, commits wait for a flush
}

// DefaultLogConfig is for a node with a gigabyte or more.
func DefaultLogConfig(dir string) LogConfig {
	return LogConfig{Dir: dir, Logger: slog.Default(), SegmentBytes: 64 << 20}
}

// DefaultStateConfig is for a node with a gigabyte or more.
func DefaultStateConfig(dir string) StateConfig {
	return StateConfig{Dir: dir, Logger: slog.Default(), CacheBytes: 128 << 20, MemTableBytes: 64 << 20, MemTables: 4}
}

// Validate names all that is wrong, and changes nothing.
func (c LogConfig) Validate() error {
	errs := validateStore(c.Dir, c.Logger)
	if c.SegmentBytes < 64<<10 || c.SegmentBytes > 1<<30 {
		errs = append(errs, errors.New("segment bytes: must be from 64 KiB to 1 GiB"))
	}
	return errors.Join(errs...)
}

// Validate names all that is wrong, and changes nothing.
func (c StateConfig) Validate() error {
	errs := validateStore(c.Dir, c.Logger)
	if c.CacheBytes < 1<<20 {
		errs = append(errs, errors.New("cache bytes: must be at least 1 MiB"))
	}
	if c.MemTableBytes < 64<<10 || c.MemTableBytes > 1<<30 {
		errs = append(errs, errors.New("memtable bytes: must be from 64 KiB to 1 GiB"))
	}
	if c.MemTables < 2 {
		errs = append(errs, errors.New("memtables: must be at least 2"))
	}
	if (c.Groups == nil) != (c.Damaged == nil) {
		errs = append(errs, errors.New("groups and damaged: must be set both or neither"))
	}
	return errors.Join(errs...)
}

func validateStore(dir string, logger *slog.Logger) (errs []error) {
	if dir == "" {
		errs = append(errs, errors.New("dir: must not be empty"))
	}
	if logger == nil {
		errs = append(errs, errors.New("logger: must not be nil"))
	}
	return errs
}
