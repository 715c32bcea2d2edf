package storage_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/waystation/waystation/storage"
)

func writeFile(t *testing.T, fs storage.FS, path, text string) {
	t.Helper()
	if err := fs.MkdirAll(fs.PathDir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFormatRefused(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		want       []string
	}{
		"newer":   {"FORMAT", "waystation log 3\n", []string{"data/log", "log format 3", "up to 2", "run the version"}},
		"older":   {"FORMAT", "waystation log 1\n", []string{"log format 1", "needs 2", "run the version"}},
		"state":   {"FORMAT", "waystation state 2\n", []string{"data/log/FORMAT", "not a folder"}},
		"damaged": {"FORMAT", "waystation log 2", []string{"damaged"}},
		"padded":  {"FORMAT", "waystation log 02\n", []string{"damaged"}},
		"empty":   {"FORMAT", "", []string{"damaged"}},
		"foreign": {"notes.txt", "hello", []string{"notes.txt", "empty folder"}},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			writeFile(t, fs, "data/log/"+c.file, c.text)
			_, err := storage.OpenLog(smallLog(fs))
			if !errors.Is(err, storage.ErrFormat) {
				t.Fatalf("open: %v, want ErrFormat", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if files, err := fs.List("data/log"); err != nil || len(files) != 1 {
				t.Errorf("a refused folder was written to: %v, %v", files, err)
			}
		})
	}
}

// TestFormatTorn is a first start that lost power before the mark was there.
func TestFormatTorn(t *testing.T) {
	fs := vfs.NewMem()
	writeFile(t, fs, "data/log/FORMAT.tmp", "waystat")
	l, err := storage.OpenLog(smallLog(fs))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestConfigValidate(t *testing.T) {
	err := storage.LogConfig{}.Validate()
	for _, want := range []string{"dir", "logger", "segment bytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("an empty configuration: %v, does not name %s", err, want)
		}
	}
	err = storage.StateConfig{}.Validate()
	for _, want := range []string{"dir", "logger", "cache", "memtable bytes", "memtables"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("an empty configuration: %v, does not name %s", err, want)
		}
	}
	if err := storage.DefaultStateConfig("x").Validate(); err != nil {
		t.Error(err)
	}
}

const lockChild = "WAYSTATION_TEST_LOCK_DIR"

// TestLockDir takes a folder in this process and asks for it in another one.
func TestLockDir(t *testing.T) {
	if dir := os.Getenv(lockChild); dir != "" {
		_, err := storage.LockDir(nil, dir)
		if !errors.Is(err, storage.ErrLocked) {
			t.Fatalf("lock: %v, want ErrLocked", err)
		}
		_, _ = os.Stdout.WriteString(err.Error() + "\n")
		return
	}
	dir := filepath.Join(t.TempDir(), "a", "data")
	lock, err := storage.LockDir(nil, dir)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestLockDir$")
	child.Env = append(os.Environ(), lockChild+"="+dir)
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("the other process: %v\n%s", err, out)
	}
	for _, want := range []string{dir, "process " + strconv.Itoa(os.Getpid()), "data folder of its own"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("error %q does not say %q", out, want)
		}
	}
	if _, err := storage.LockDir(nil, dir); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("second lock in one process: %v, want ErrLocked", err)
	}
	for range 2 {
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if lock, err = storage.LockDir(nil, dir); err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
}
