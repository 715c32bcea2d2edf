package storage_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/waystation/waystation/storage"
)

func TestSlowFS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := storage.NewSlowFS(vfs.NewMem())
		if err := fs.MkdirAll("d", 0o755); err != nil {
			t.Fatal(err)
		}
		open := map[string]func() (vfs.File, error){
			"create":     func() (vfs.File, error) { return fs.Create("d/a", vfs.WriteCategoryUnspecified) },
			"read-write": func() (vfs.File, error) { return fs.OpenReadWrite("d/b", vfs.WriteCategoryUnspecified) },
			"folder":     func() (vfs.File, error) { return fs.OpenDir("d") },
		}
		for name, open := range open {
			f, err := open()
			if err != nil {
				t.Fatal(err)
			}
			for _, delay := range []time.Duration{0, time.Second, 0} {
				fs.Slow(delay)
				for _, sync := range []func() error{f.Sync, f.SyncData} {
					begin := time.Now()
					if err := sync(); err != nil || time.Since(begin) != delay {
						t.Errorf("%s: took %v, want %v (%v)", name, time.Since(begin), delay, err)
					}
				}
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if fs.Unwrap() == nil {
			t.Error("nothing below")
		}
	})
}
