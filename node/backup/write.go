package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// Source streams the groups of a cluster: head first, then the range stream.
type Source func(ctx context.Context, group uint32, each func(*waystationv1.ExportGroupResponse) error) error

// headMagic begins each file; the head follows behind its length u32 and CRC32C u32.
const headMagic = "wsbackup\x01"

// Write makes a backup in dir, which must be empty. The partitions come first and
// the cluster's own state last, so that it knows all that they know. said is told
// of each group that is done.
func Write(ctx context.Context, dir string, partitions int, from Source, said func(File)) (*Manifest, error) {
	if err := empty(dir); err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	m := &Manifest{Format: Format, Partitions: partitions, CreatedAt: time.Now().UTC().Truncate(time.Second), Files: make([]File, partitions+1)}
	for i := range m.Files {
		group := uint32((i + 1) % len(m.Files))
		f, head, err := writeGroup(ctx, dir, group, from)
		if err != nil {
			return nil, fmt.Errorf("back up group %d: %w", group, err)
		}
		if int(head.GetPartitions()) != partitions || head.GetGroup() != group {
			return nil, fmt.Errorf("back up group %d: the node answered with group %d of %d partitions", group, head.GetGroup(), head.GetPartitions())
		}
		m.ClusterID, m.Cluster = hex.EncodeToString(head.GetClusterId()), head.GetClusterName()
		m.Files[group] = f
		said(f)
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = writeManifest(dir, append(data, '\n'))
	}
	if err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	return m, nil
}

func writeManifest(dir string, data []byte) error {
	temp := filepath.Join(dir, manifestName+".tmp")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	// The files' names first: the manifest says that they are there.
	if err = errors.Join(err, f.Close(), syncDir(dir)); err != nil {
		return err
	}
	return errors.Join(os.Rename(temp, filepath.Join(dir, manifestName)), syncDir(dir))
}

// summed counts and sums what is written.
type summed struct {
	w     io.Writer
	sum   hash.Hash
	bytes int64
}

func (s *summed) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	_, _ = s.sum.Write(b[:n]) // a hash never fails
	s.bytes += int64(n)
	return n, err
}

func writeGroup(ctx context.Context, dir string, group uint32, from Source) (File, *waystationv1.GroupHead, error) {
	out := File{Name: fileName(group), Group: group}
	f, err := os.OpenFile(filepath.Join(dir, out.Name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return out, nil, err
	}
	buf := bufio.NewWriterSize(f, 1<<20)
	w := &summed{w: buf, sum: sha256.New()}
	var head *waystationv1.GroupHead
	err = from(ctx, group, func(r *waystationv1.ExportGroupResponse) error {
		if head == nil {
			if head = r.GetHead(); head == nil {
				return errors.New("the node sent no head")
			}
			return writeHead(w, head)
		}
		_, err := w.Write(r.GetData())
		return err
	})
	if err == nil && head == nil {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = buf.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	out.Index, out.Bytes, out.SHA256 = head.GetIndex(), w.bytes, hex.EncodeToString(w.sum.Sum(nil))
	return out, head, err
}

func writeHead(w io.Writer, head *waystationv1.GroupHead) error {
	data, err := proto.Marshal(head)
	if err != nil {
		return err
	}
	b := binary.BigEndian.AppendUint32([]byte(headMagic), uint32(len(data)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
	_, err = w.Write(append(b, data...))
	return err
}
