package storage_test

import (
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/storagetest"
)

// crashDisk keeps files as a disk does that loses power: each block and directory entry that
// was not synced stays with some probability, so that the rest is torn and out of order.
type crashDisk struct {
	t    *testing.T
	fs   *vfs.MemFS
	fsys storage.FS // what the stores see; nil: fs itself
	open []func() error
}

func newCrashDisk(t *testing.T) *crashDisk {
	d := &crashDisk{t: t, fs: vfs.NewCrashableMem()}
	t.Cleanup(d.abandon)
	return d
}

func (d *crashDisk) seen() storage.FS {
	if d.fsys != nil {
		return d.fsys
	}
	return d.fs
}

func (d *crashDisk) OpenLog() (*storage.Log, error) {
	l, err := storage.OpenLog(smallLog(d.seen()))
	if err == nil {
		d.open = append(d.open, l.Close)
	}
	return l, err
}

func (d *crashDisk) OpenState() (*storage.State, error) {
	s, err := storage.OpenState(smallState(d.seen()))
	if err == nil {
		d.open = append(d.open, s.Close)
	}
	return s, err
}

func (d *crashDisk) Crash(seed uint64) {
	r := newRNG(seed, 4)
	left := d.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
	d.abandon()
	d.fs = left
}

func newRNG(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

// abandon closes what still writes to a disk that nobody reads again.
func (d *crashDisk) abandon() {
	for _, closeStore := range d.open {
		if err := closeStore(); err != nil {
			d.t.Errorf("close: %v", err)
		}
	}
	d.open = nil
}

func smallLog(fs storage.FS) storage.LogConfig {
	c := storage.DefaultLogConfig("data/log")
	c.FS, c.Logger, c.SegmentBytes = fs, slog.New(slog.DiscardHandler), 256<<10
	storage.FixNonces(&c, 3)
	return c
}

func smallState(fs storage.FS) storage.StateConfig {
	c := storage.DefaultStateConfig("data/state")
	c.FS, c.Logger = fs, slog.New(slog.DiscardHandler)
	c.CacheBytes, c.MemTableBytes = 4<<20, 256<<10
	c.Groups = func() []storage.GroupRange { return nil }
	c.Damaged = func(d storage.Damage) { panic(d.Err) } // nobody damages anything
	return c
}

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storagetest.Disk { return newCrashDisk(t) })
}
