//go:build !linux

package storage

import (
	"errors"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

type directFile struct{ *os.File }

// openDirect returns nil: elsewhere what is written goes through the page cache.
func openDirect(string, vfs.File) *directFile { return nil }

func (f *directFile) allocate(int64, int64) error { return errors.ErrUnsupported }
