//go:build linux || darwin

package server

import "syscall"

// diskFree is what an unprivileged process may still write where dir is.
func diskFree(dir string) (int64, bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true //nolint:unconvert // another type on macOS
}
