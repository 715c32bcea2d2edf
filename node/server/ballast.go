package server

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// ballastFile takes up room that nothing else gets: on a disk that is full to the
// last byte nothing can be opened, let alone deleted. Whoever removes it can start
// the node, which then has the hard reserve to make room with.
const ballastFile = "BALLAST"

// ballastRoom times the reserve must be free before a ballast is made.
const ballastRoom = 3

// keepBallast makes the ballast once there is plenty of room.
func (d *disk) keepBallast(free int64) error {
	size := d.reserve / hardShare
	path := filepath.Join(d.dir, ballastFile)
	if size == 0 || free < ballastRoom*d.reserve {
		return nil
	}
	if info, err := os.Stat(path); err == nil && info.Size() == size {
		return nil
	}
	temp := path + ".tmp"
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make ballast: %w", err)
	}
	if err = errors.Join(allocate(f, size), f.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("make ballast: %w", err), os.Remove(temp))
	}
	return nil
}

// releaseBallast gives the ballast back if the disk is too full to start on.
func releaseBallast(dir string, reserve int64, measure func(string) (int64, bool), logger *slog.Logger) {
	free, known := measure(dir)
	if !known || free >= reserve/hardShare {
		return
	}
	if err := os.Remove(filepath.Join(dir, ballastFile)); err == nil {
		logger.Warn("the disk is full: the ballast was removed to start at all; make room", slog.Int64("free_bytes", free))
	}
}

// fill writes zeros, where space can't be had by asking for it.
func fill(f *os.File, size int64) error {
	zeros := make([]byte, 1<<20)
	for size > 0 {
		n, err := f.Write(zeros[:min(size, int64(len(zeros)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return f.Sync()
}
