//go:build !linux

package server

import "os"

// allocate takes size bytes of the disk for f.
func allocate(f *os.File, size int64) error { return fill(f, size) }
