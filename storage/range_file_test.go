package storage

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func filledState(t *testing.T) *State {
	t.Helper()
	s := NewState(smallKV(t), slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = s.Close() })
	b := s.NewBatch()
	for i := range 500 {
		b.Set(hurtKey(1, i), noiseOf(uint64(i), 2000))
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRangeFile takes a backup, loses power, and restores it in another state.
func TestRangeFile(t *testing.T) {
	from, to := filledState(t), NewState(smallKV(t), slog.New(slog.DiscardHandler))
	defer func() { _ = to.Close() }()
	fs := vfs.NewCrashableMem()
	r := hurtRange(1)
	snap := from.SnapshotRange(r.Lower, r.Upper)
	wrote, err := ExportFile(fs, "backup", snap, nil, nil)
	if err := errors.Join(err, snap.Close()); err != nil {
		t.Fatal(err)
	}
	left := fs.CrashClone(vfs.CrashCloneCfg{})
	st, err := to.NewStage(1)
	if err != nil {
		t.Fatal(err)
	}
	read, err := ImportFile(left, "backup", st)
	if err != nil || read != wrote || read.Keys != 500 {
		t.Fatalf("wrote %+v, read %+v: %v", wrote, read, err)
	}
	if err := errors.Join(st.Seal(), to.Install(1, r.Lower, r.Upper)); err != nil {
		t.Fatal(err)
	}
	a, errA := Checksum(t.Context(), from, r.Lower, r.Upper, nil)
	b, errB := Checksum(t.Context(), to, r.Lower, r.Upper, nil)
	if errA != nil || errB != nil || a != b {
		t.Fatalf("before %+v, restored %+v: %v %v", a, b, errA, errB)
	}
}

func TestRangeFileBehindEnd(t *testing.T) {
	s := filledState(t)
	fs := vfs.NewMem()
	if _, err := ExportFile(fs, "backup", s, nil, nil); err != nil {
		t.Fatal(err)
	}
	f, err := fs.OpenReadWrite("backup", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt([]byte{0}, info.Size())
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	st, err := s.NewStage(1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ImportFile(fs, "backup", st); !errors.Is(err, ErrFormat) {
		t.Fatalf("a file with something behind its end: %v", err)
	}
}

// TestExportFileFails lets each write, sync and rename fail: an older backup stays whole.
func TestExportFileFails(t *testing.T) {
	s := filledState(t)
	older := bytes.Repeat([]byte("older"), 1000)
	for n := int64(1); ; n++ {
		mem := vfs.NewCrashableMem()
		write(t, mem, "backup", older)
		once := &failNth{n: n}
		_, err := ExportFile(errorfs.Wrap(mem, once), "backup", s, nil, nil)
		f, openErr := mem.CrashClone(vfs.CrashCloneCfg{}).Open("backup")
		if openErr != nil {
			t.Fatal(openErr)
		}
		got, readErr := io.ReadAll(f)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if _, statErr := mem.Stat("backup.tmp"); !errors.Is(statErr, os.ErrNotExist) {
			t.Errorf("operation %d: left: %v", n, statErr)
		}
		if err == nil {
			if once.seen >= n || n < 10 {
				t.Fatalf("a failure of operation %d is not told", n)
			}
			return
		}
		if !bytes.Equal(got, older) {
			if _, err := readStream(bytes.NewReader(got)); err != nil {
				t.Fatalf("operation %d failed, and neither the older file nor the new one is whole: %v", n, err)
			}
		}
	}
}

func write(t *testing.T, fs FS, name string, data []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err == nil {
		// Built with the race detector, Pebble's file in memory spoils what it was given.
		_, err = f.Write(bytes.Clone(data))
	}
	if err := errors.Join(err, f.Sync(), f.Close(), syncDir(fs, "")); err != nil {
		t.Fatal(err)
	}
}

// failNth fails the n-th operation that changes the disk.
type failNth struct{ n, seen int64 }

func (f *failNth) String() string { return "fail nth" }

func (f *failNth) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileWrite, errorfs.OpCreate, errorfs.OpRename, errorfs.OpFileClose:
		if f.seen++; f.seen == f.n {
			return errorfs.ErrInjected
		}
	}
	return nil
}
