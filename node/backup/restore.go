package backup

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/member"
	"github.com/waystation/waystation/storage"
)

// Jump is how far behind a group's last index a restored one goes on: no cluster
// gives out as many, so that a token, a number or an index from before is never given
// again.
const Jump = repository.Jump

// Restore makes the data folder of a new cluster's only node out of the backup in
// dir. The folder must be absent or empty; it appears only once it is whole. It
// returns the new cluster.
func Restore(dir, dataDir, name string, logger *slog.Logger) (meta.Cluster, error) {
	var c meta.Cluster
	m, err := Read(dir)
	if err == nil {
		err = check(dir, m)
	}
	if err != nil {
		return c, fmt.Errorf("restore: %w", err)
	}
	if err = empty(dataDir); err != nil {
		return c, fmt.Errorf("restore: --data-dir: %w", err)
	}
	temp := filepath.Clean(dataDir) + ".restoring"
	if err = empty(temp); err != nil {
		return c, fmt.Errorf("restore: %w: remove it, it is what an earlier try left", err)
	}
	c, err = restore(dir, temp, name, m, logger)
	if err == nil {
		err = errors.Join(os.Remove(dataDir), os.Rename(temp, dataDir), syncDir(filepath.Dir(filepath.Clean(dataDir))))
	}
	if err != nil {
		return c, errors.Join(fmt.Errorf("restore: %w", err), os.RemoveAll(temp))
	}
	return c, nil
}

// check reads all files once before anything is made of them.
func check(dir string, m *Manifest) error {
	for _, f := range m.Files {
		path := filepath.Join(dir, f.Name)
		r, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w: %s is missing: use another backup", ErrIncomplete, path)
		}
		if err != nil {
			return err
		}
		sum := sha256.New()
		n, err := io.Copy(sum, r)
		if err = errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if n != f.Bytes || hex.EncodeToString(sum.Sum(nil)) != f.SHA256 {
			return fmt.Errorf("%w: %s is not as it was written: use another backup", ErrDamaged, path)
		}
	}
	return nil
}

func restore(dir, dataDir, name string, m *Manifest, logger *slog.Logger) (c meta.Cluster, err error) {
	to, err := openStores(dataDir, logger)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	log := to.log
	id, err := identity.Start(log, rand.Reader)
	if err != nil {
		return c, err
	}
	t := &target{dir: dir, stores: to}
	node := meta.Node{ID: id.Node, Name: name, Boot: id.Boot, Life: id.Life, Version: config.Version(), Features: meta.Supported()}
	c, replicas, err := t.meta(m.Files[0], node)
	if err != nil {
		return c, err
	}
	for _, f := range m.Files[1:] {
		if int(f.Group) >= len(replicas) {
			return c, fmt.Errorf("%w: %s is of no partition", ErrDamaged, f.Name)
		}
		if err := t.partition(f, replicas[f.Group]); err != nil {
			return c, err
		}
	}
	b := member.Belonging{Cluster: c.ID, Name: c.Name, Partitions: c.Partitions, HashSeed: c.HashSeed, Replica: replicas[0], Node: name, Founder: true}
	return c, member.Record(log, b)
}

// target is the data folder that is being made of the backup in dir.
type target struct {
	*stores
	dir string
}

// open returns a file's records.
func (t *target) open(f File) (*os.File, *waystationv1.GroupHead, *storage.RangeReader, error) {
	path := filepath.Join(t.dir, f.Name)
	r, err := os.Open(path)
	if err != nil {
		return nil, nil, nil, err
	}
	in := bufio.NewReaderSize(r, 1<<20)
	head, err := readHead(in)
	if err == nil && (head.GetGroup() != f.Group || head.GetIndex() != f.Index) {
		err = fmt.Errorf("%w: it is of group %d at %d", ErrDamaged, head.GetGroup(), head.GetIndex())
	}
	if err == nil && head.GetFormat() != storage.StateFormat {
		err = fmt.Errorf("%w: its records are of format %d, this program knows %d: restore with the version that wrote it", ErrFormat, head.GetFormat(), storage.StateFormat)
	}
	if err != nil {
		return nil, nil, nil, errors.Join(fmt.Errorf("%s: %w", path, err), r.Close())
	}
	return r, head, storage.NewRangeReader(in), nil
}

const maxHead = 1 << 20

func readHead(r io.Reader) (*waystationv1.GroupHead, error) {
	front := make([]byte, len(headMagic)+8)
	if _, err := io.ReadFull(r, front); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	size := binary.BigEndian.Uint32(front[len(headMagic):])
	if string(front[:len(headMagic)]) != headMagic || size > maxHead {
		return nil, fmt.Errorf("%w: it begins with %q", ErrFormat, front[:len(headMagic)])
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	head := &waystationv1.GroupHead{}
	if crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(front[len(headMagic)+4:]) || proto.Unmarshal(data, head) != nil {
		return nil, fmt.Errorf("%w: its head's checksum does not fit", ErrDamaged)
	}
	return head, nil
}

// each visits a file's records.
func (t *target) each(f File, visit func(head *waystationv1.GroupHead, k, v []byte) error) (*waystationv1.GroupHead, error) {
	file, head, records, err := t.open(f)
	if err != nil {
		return nil, err
	}
	for err == nil {
		var k, v []byte
		if k, v, err = records.Next(); err == nil {
			err = visit(head, k, v)
		}
	}
	if err == io.EOF { //nolint:errorlint // it is bare at a whole end, and only there
		err = nil
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return head, fmt.Errorf("%s: %w", filepath.Join(t.dir, f.Name), err)
	}
	return head, nil
}

func (t *target) meta(f File, n meta.Node) (c meta.Cluster, replicas []storage.ReplicaID, err error) {
	var old []meta.Record
	head, err := t.each(f, func(_ *waystationv1.GroupHead, k, v []byte) error {
		old = append(old, meta.Record{Key: bytes.Clone(k), Value: bytes.Clone(v)})
		return nil
	})
	if err != nil {
		return c, nil, err
	}
	var id meta.ClusterID
	_, _ = rand.Read(id[:]) // never fails, says its documentation
	made, err := meta.Refound(old, meta.Refounding{Cluster: id, Node: n, Applied: head.GetIndex() + Jump, NowMs: time.Now().UnixMilli()})
	if err != nil {
		return c, nil, err
	}
	return made.Cluster, made.Replicas, t.putMeta(made, position(head))
}

// position is where the group of a file goes on.
func position(head *waystationv1.GroupHead) storage.Position {
	return storage.Position{Index: head.GetIndex() + Jump, Term: head.GetTerm() + 1}
}

func (t *target) partition(f File, replica storage.ReplicaID) error {
	g := storage.GroupID(f.Group)
	lower, upper := repository.KeyRange(repository.PartitionID(g - 1))
	stage, err := t.state.NewStage(g)
	if err != nil {
		return err
	}
	head, err := t.each(f, func(head *waystationv1.GroupHead, k, v []byte) error {
		v, keep := repository.Moved(k, v, head.GetIndex()+Jump)
		if !keep {
			return nil
		}
		return stage.Add(k, v)
	})
	if err != nil {
		return err
	}
	return t.install(stage, storage.ReplicaMeta{Group: g, Replica: replica, Truncated: position(head)}, lower, upper)
}
