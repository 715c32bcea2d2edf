package storage

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ExportFile writes the records of r in [lower, upper) to a file as a range stream: a backup of one
// group. r must not change meanwhile: State.SnapshotRange. The file is there only once it is whole
// and durable; until then it has the suffix .tmp, and one that was there before is replaced. A nil
// fs is the disk. To end it early, let r fail.
func ExportFile(fs FS, path string, r Reader, lower, upper []byte) (Amount, error) {
	if fs == nil {
		fs = vfs.Default
	}
	f, err := fs.Create(path+tempSuffix, vfs.WriteCategoryUnspecified)
	if err != nil {
		return Amount{}, fmt.Errorf("export to %s: %w", path, err)
	}
	amount, err := ExportRange(vfs.NewSyncingFile(f, vfs.SyncingFileOptions{BytesPerSync: 1 << 20}), r, lower, upper)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fs.Rename(path+tempSuffix, path)
	}
	if err == nil {
		err = syncDir(fs, fs.PathDir(path))
	}
	if err != nil {
		_ = fs.Remove(path + tempSuffix) // the first error is the one to tell
		return amount, fmt.Errorf("export to %s: %w", path, err)
	}
	return amount, nil
}

// ImportFile adds the records of a file that ExportFile wrote to a stage, which the caller seals or
// discards. Errors are those of ImportRange; a file that goes on behind its end is ErrFormat.
func ImportFile(fs FS, path string, to *Stage) (Amount, error) {
	if fs == nil {
		fs = vfs.Default
	}
	f, err := fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return Amount{}, fmt.Errorf("import from %s: %w", path, err)
	}
	amount, err := ImportRange(f, to)
	if err == nil {
		err = ended(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return amount, fmt.Errorf("import from %s: %w", path, err)
	}
	return amount, nil
}

func ended(f io.Reader) error {
	var b [1]byte
	switch n, err := f.Read(b[:]); {
	case n > 0:
		return fmt.Errorf("%w: the file goes on behind the stream's end", ErrFormat)
	case errors.Is(err, io.EOF):
		return nil
	default:
		return err
	}
}
