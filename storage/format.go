package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The format versions that this program writes, and the only ones that it reads. They rise
// when the layout of keys or values changes in a way that an older program would misread.
const (
	logFormat   = 2
	StateFormat = 2 // also of the entries, and of what exports and backups carry
)

const formatFile = "FORMAT"

// checkFormat makes sure that dir holds a store of this name and version, and marks it as
// such if it is new. The mark is durable before anything else is written there.
func checkFormat(fs FS, dir, name string, version int) error {
	if err := mkdirDurable(fs, dir); err != nil {
		return err
	}
	text, err := readSmall(fs, fs.PathJoin(dir, formatFile))
	if errors.Is(err, os.ErrNotExist) {
		return markFormat(fs, dir, name, version)
	}
	if err != nil {
		return fmt.Errorf("read format: %w", err)
	}
	return parseFormat(text, fs.PathJoin(dir, formatFile), name, version)
}

func formatText(name string, version int) string {
	return fmt.Sprintf("waystation %s %d\n", name, version)
}

func parseFormat(text, path, name string, version int) error {
	var found int
	if _, err := fmt.Sscanf(text, "waystation "+name+" %d\n", &found); err != nil || formatText(name, found) != text {
		return fmt.Errorf("%w: %s says %q, expected %q; this is not a folder of Waystation's %s, or it is damaged",
			ErrFormat, path, text, formatText(name, version), name)
	}
	switch {
	case found > version:
		return fmt.Errorf("%w: the folder has %s format %d, this program knows up to %d; run the version of waystation that wrote it, or a newer one",
			ErrFormat, name, found, version)
	case found < version:
		return fmt.Errorf("%w: the folder has %s format %d, this program needs %d; run the version of waystation that wrote it",
			ErrFormat, name, found, version)
	}
	return nil
}

// markFormat refuses a folder that has something in it already: the mark is always written
// first, so whatever is there came from elsewhere.
func markFormat(fs FS, dir, name string, version int) error {
	files, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("list folder: %w", err)
	}
	for _, f := range files {
		if f != formatFile+tempSuffix {
			return fmt.Errorf("%w: the folder has no %s file but holds %q; choose an empty folder, or restore the file",
				ErrFormat, formatFile, f)
		}
	}
	if err := writeAtomic(fs, dir, formatFile, formatText(name, version)); err != nil {
		return fmt.Errorf("mark format: %w", err)
	}
	return nil
}

const tempSuffix = ".tmp"

// writeAtomic leaves the file either as it was or whole and durable.
func writeAtomic(fs FS, dir, name, text string) error {
	temp := fs.PathJoin(dir, name+tempSuffix)
	f, err := fs.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(temp, fs.PathJoin(dir, name)); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

func readSmall(fs FS, path string) (string, error) { return readLimited(fs, path, 4<<10) }

func readLimited(fs FS, path string, limit int64) (string, error) {
	f, err := fs.Open(path)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit))
	return string(b), errors.Join(err, f.Close())
}

func syncDir(fs FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// mkdirDurable creates dir and what is missing above it. A new folder is durable only when
// the one above it was synced.
func mkdirDurable(fs FS, dir string) error {
	var missing []string
	for d := dir; ; d = fs.PathDir(d) {
		if _, err := fs.Stat(d); err == nil {
			break
		} else if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("create folder: %w", err)
		}
		missing = append(missing, d)
		if parent := fs.PathDir(d); parent == d || strings.TrimSpace(parent) == "" {
			break
		}
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create folder: %w", err)
	}
	for _, d := range missing {
		if err := syncDir(fs, fs.PathDir(d)); err != nil {
			return fmt.Errorf("create folder: %w", err)
		}
	}
	return nil
}
