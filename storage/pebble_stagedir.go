package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
)

const (
	// stageDir holds a folder for each group that something is staged for. It is in the store's
	// own folder, so that a table can be linked into the database.
	stageDir = "stage"
	sealFile = "SEALED"

	sealVersion = 1
	// maxSealBytes has room for a million tables.
	maxSealBytes = 8 << 20
)

var errSeal = errors.New("not a seal")

// sealedStage is what SEALED says.
type sealedStage struct {
	sizes       []uint64 // of the tables, in order
	keys        uint64
	first, last []byte
}

// encode lays out SEALED: crc u32 over the rest, version u8, and as uvarints the number of
// tables, the size of each, the number of keys, and the first and the last key with their length.
func (s *sealedStage) encode() []byte {
	b := []byte{0, 0, 0, 0, sealVersion}
	b = binary.AppendUvarint(b, uint64(len(s.sizes)))
	for _, size := range s.sizes {
		b = binary.AppendUvarint(b, size)
	}
	b = binary.AppendUvarint(b, s.keys)
	for _, key := range [][]byte{s.first, s.last} {
		b = binary.AppendUvarint(b, uint64(len(key)))
		b = append(b, key...)
	}
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[crcSize:], castagnoli))
	return b
}

func parseSeal(b []byte) (*sealedStage, error) {
	if len(b) < crcSize+1 || binary.BigEndian.Uint32(b) != crc32.Checksum(b[crcSize:], castagnoli) || b[crcSize] != sealVersion {
		return nil, errSeal
	}
	d := uvarints{rest: b[crcSize+1:]}
	s := &sealedStage{}
	for n := d.next(); n > 0 && !d.bad; n-- {
		s.sizes = append(s.sizes, d.next())
	}
	s.keys, s.first, s.last = d.next(), d.bytes(), d.bytes()
	if d.bad || len(d.rest) > 0 {
		return nil, errSeal
	}
	return s, nil
}

// uvarints reads numbers and byte strings one after the other; bad once there are none.
type uvarints struct {
	rest []byte
	bad  bool
}

func (d *uvarints) next() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// bytes returns nil for an empty string.
func (d *uvarints) bytes() []byte {
	n := d.next()
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
	}
	if d.bad || n == 0 {
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (s *sealedStage) paths(fs FS, dir string) []string {
	paths := make([]string, len(s.sizes))
	for n := range s.sizes {
		paths[n] = fs.PathJoin(dir, fmt.Sprintf("%06d.sst", n+1))
	}
	return paths
}

func (s *pebbleStages) groupDir(g GroupID) string {
	return s.fs.PathJoin(s.dir, strconv.FormatUint(uint64(g), 10))
}

// load finds the sealed stages, and removes what a crash left of others: of those that were not
// sealed, and of those of which an install or a removal has taken some tables.
func (s *pebbleStages) load(fs FS, dir string) error {
	s.fs, s.dir = fs, fs.PathJoin(dir, stageDir)
	s.sealed, s.open = map[GroupID]*sealedStage{}, map[GroupID]*pebbleStage{}
	names, err := fs.List(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list stages: %w", err)
	}
	for _, name := range names {
		group, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			return fmt.Errorf("%w: %s is no stage; remove it", ErrFormat, fs.PathJoin(s.dir, name))
		}
		g := GroupID(group)
		if stage, err := readStage(fs, s.groupDir(g)); err == nil {
			s.sealed[g] = stage
		} else if err := removeStage(fs, s.groupDir(g)); err != nil {
			return fmt.Errorf("remove stage: %w", err)
		}
	}
	return nil
}

func readStage(fs FS, dir string) (*sealedStage, error) {
	text, err := readLimited(fs, fs.PathJoin(dir, sealFile), maxSealBytes)
	if err != nil {
		return nil, err
	}
	stage, err := parseSeal([]byte(text))
	if err != nil {
		return nil, err
	}
	for n, path := range stage.paths(fs, dir) {
		info, err := fs.Stat(path)
		if err != nil {
			return nil, err
		}
		if uint64(info.Size()) != stage.sizes[n] {
			return nil, errSeal
		}
	}
	return stage, nil
}

// removeStage takes the seal away first and for good: no crash may leave a seal beside tables
// of another stage.
func removeStage(fs FS, dir string) error {
	if err := fs.Remove(fs.PathJoin(dir, sealFile)); err == nil {
		if err := syncDir(fs, dir); err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := fs.RemoveAll(dir); err != nil {
		return err
	}
	return syncDir(fs, fs.PathDir(dir))
}
