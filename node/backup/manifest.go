package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

var (
	// ErrIncomplete says that a folder is no backup, or one that did not come to
	// its end.
	ErrIncomplete = errors.New("not a complete backup")
	// ErrDamaged says that a file is not as it was written.
	ErrDamaged = errors.New("backup is damaged")
	// ErrFormat says that another version wrote the backup.
	ErrFormat = errors.New("backup has another format")
	// ErrNotEmpty says that a folder has something in it already.
	ErrNotEmpty = errors.New("folder is not empty")
)

// Format is the version of a backup's layout.
const Format = 1

const manifestName = "manifest.json"

// Manifest says what a backup is of.
type Manifest struct {
	Format     int       `json:"format"`
	ClusterID  string    `json:"cluster_id"`
	Cluster    string    `json:"cluster"`
	Partitions int       `json:"partitions"`
	CreatedAt  time.Time `json:"created_at"`
	Files      []File    `json:"files"`
}

// File is one group's.
type File struct {
	Name   string `json:"name"`
	Group  uint32 `json:"group"`
	Index  uint64 `json:"index,string"`
	Bytes  int64  `json:"bytes,string"`
	SHA256 string `json:"sha256"`
}

// Read returns the manifest of the backup in dir.
func Read(dir string) (*Manifest, error) {
	data, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s has no %s: name a folder that `waystation backup` finished", ErrIncomplete, dir, manifestName)
	}
	if err != nil {
		return nil, fmt.Errorf("read backup: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w: use another backup", ErrDamaged, filepath.Join(dir, manifestName), err)
	}
	if m.Format != Format {
		return nil, fmt.Errorf("%w: %s says %d, this program reads %d: restore with the version that wrote it", ErrFormat, dir, m.Format, Format)
	}
	if m.Partitions < 1 || len(m.Files) != m.Partitions+1 {
		return nil, fmt.Errorf("%w: %s names %d files for %d partitions: use another backup", ErrDamaged, filepath.Join(dir, manifestName), len(m.Files), m.Partitions)
	}
	for i, f := range m.Files {
		if int(f.Group) != i || f.Name != fileName(f.Group) {
			return nil, fmt.Errorf("%w: %s names %q for group %d: use another backup", ErrDamaged, filepath.Join(dir, manifestName), f.Name, i)
		}
	}
	return &m, nil
}

func fileName(group uint32) string { return fmt.Sprintf("group-%05d.wsb", group) }

// empty says whether a folder holds nothing, and makes it if there is none.
func empty(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	list, err := os.ReadDir(dir)
	if err == nil && len(list) > 0 {
		err = fmt.Errorf("%w: %s has %s in it: name a new folder", ErrNotEmpty, dir, list[0].Name())
	}
	return err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
