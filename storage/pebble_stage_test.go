package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// stateOn opens a state whose stages have small tables.
func stateOn(t *testing.T, fs FS) (*State, *pebbleKV) {
	t.Helper()
	c := DefaultStateConfig("state")
	c.FS, c.Logger = fs, slog.New(slog.DiscardHandler)
	c.CacheBytes, c.MemTableBytes = 1<<20, 1<<20
	s, err := OpenState(c)
	if err != nil {
		t.Fatal(err)
	}
	kv := s.kv.(*pebbleKV)
	kv.stageFile = stageSlack + 1<<20
	return s, kv
}

func fill(t *testing.T, s *State, g GroupID, records int) *Stage {
	t.Helper()
	st, err := s.NewStage(g)
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		if err := st.Add(fmt.Appendf(nil, "g%06d", i), noiseOf(uint64(i), 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

// TestStageManyTables stages more than one table holds: none grows beyond its bound, and all of
// them are installed at once.
func TestStageManyTables(t *testing.T) {
	fs := vfs.NewMem()
	s, kv := stateOn(t, fs)
	defer func() { _ = s.Close() }()
	st := fill(t, s, 5, 1000) // 10 MB
	if err := st.Seal(); err != nil {
		t.Fatal(err)
	}
	sizes := kv.stages.sealed[5].sizes
	if len(sizes) < 8 {
		t.Fatalf("10 MB are staged in %d tables of at most 1 MiB", len(sizes))
	}
	for n, size := range sizes {
		if size > uint64(kv.stageFile) {
			t.Errorf("table %d has %d bytes", n, size)
		}
	}
	if err := s.Install(5, []byte("g"), []byte("h")); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if v, err := s.Get(fmt.Appendf(nil, "g%06d", i)); err != nil || string(v) != string(noiseOf(uint64(i), 10_000)) {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	if names, err := fs.List("state/stage"); err != nil || len(names) != 0 {
		t.Fatalf("left in the staging folder: %v, %v", names, err)
	}
}

// TestStageLeftovers starts with folders that a crash may leave, each of which is removed, and
// with one that it may not.
func TestStageLeftovers(t *testing.T) {
	sealed := func() *vfs.MemFS {
		fs := vfs.NewMem()
		s, _ := stateOn(t, fs)
		if err := errors.Join(fill(t, s, 5, 300).Seal(), s.Close()); err != nil {
			t.Fatal(err)
		}
		return fs
	}
	rewrite := func(fs FS, name string, data []byte) error {
		f, err := fs.Create("state/stage/5/"+name, vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.Write(data)
		}
		return errors.Join(err, f.Close())
	}
	for name, c := range map[string]struct {
		hurt func(fs *vfs.MemFS) error
		want bool
	}{
		"whole":        {func(*vfs.MemFS) error { return nil }, true},
		"no seal":      {func(fs *vfs.MemFS) error { return fs.Remove("state/stage/5/SEALED") }, false},
		"torn seal":    {func(fs *vfs.MemFS) error { return rewrite(fs, "SEALED", []byte{1, 2}) }, false},
		"table gone":   {func(fs *vfs.MemFS) error { return fs.Remove("state/stage/5/000002.sst") }, false},
		"table short":  {func(fs *vfs.MemFS) error { return rewrite(fs, "000001.sst", []byte("x")) }, false},
		"nothing":      {func(fs *vfs.MemFS) error { return fs.RemoveAll("state/stage/5") }, false},
		"empty folder": {func(fs *vfs.MemFS) error { return fs.MkdirAll("state/stage/7", 0o755) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			fs := sealed()
			if err := c.hurt(fs); err != nil {
				t.Fatal(err)
			}
			s, _ := stateOn(t, fs)
			defer func() { _ = s.Close() }()
			if s.Staged(5) != c.want || s.Staged(7) {
				t.Errorf("staged: %v %v, want %v", s.Staged(5), s.Staged(7), c.want)
			}
			names, err := fs.List("state/stage")
			if want := map[bool]int{true: 1, false: 0}[c.want]; err != nil || len(names) != want {
				t.Errorf("in the staging folder: %v, %v", names, err)
			}
		})
	}
	fs := sealed()
	if err := fs.MkdirAll("state/stage/notes", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenState(func() StateConfig {
		c := DefaultStateConfig("state")
		c.FS = fs
		return c
	}()); !errors.Is(err, ErrFormat) {
		t.Errorf("a folder that nobody staged: %v", err)
	}
}

// TestInstallOfDamagedStage installs a stage that was damaged since it was sealed: it is refused, the
// state stays as it was, and another stage can follow.
func TestInstallOfDamagedStage(t *testing.T) {
	fs := vfs.NewMem()
	s, kv := stateOn(t, fs)
	defer func() { _ = s.Close() }()
	b := s.NewBatch()
	b.Set([]byte("g1"), []byte("old"))
	if err := errors.Join(b.Commit(), fill(t, s, 5, 300).Seal()); err != nil {
		t.Fatal(err)
	}
	path := "state/stage/5/000002.sst"
	data, err := fs.UnsafeGetFileDataBuffer(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-20] ^= 1
	if err := s.Install(5, []byte("g"), []byte("h")); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("install of a damaged stage: %v, want ErrCorrupt", err)
	}
	if v, err := s.Get([]byte("g1")); err != nil || string(v) != "old" || kv.Fault() != nil {
		t.Fatalf("the state after a refused install: %q, %v, fault %v", v, err, kv.Fault())
	}
	if err := errors.Join(fill(t, s, 5, 10).Seal(), s.Install(5, []byte("g"), []byte("h"))); err != nil {
		t.Fatalf("a good stage after a damaged one: %v", err)
	}
}
