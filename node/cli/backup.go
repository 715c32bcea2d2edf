package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/backup"
	"github.com/waystation/waystation/node/config"
)

// runBackup writes a backup of the running cluster into a new folder.
func runBackup(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("backup")
	addrFlag(fs)
	n, dir, err := lookAt(ctx, s, fs, args, "backup DIR [flags]", "one folder, which must be new or empty")
	if err != nil {
		return helped(err)
	}
	defer n.close()
	d, err := call(ctx, n, n.DescribeCluster, &waystationv1.DescribeClusterRequest{})
	if err != nil {
		return err
	}
	m, err := backup.Write(ctx, dir, len(d.GetPartitions()), n.export, func(backup.File) {})
	if err != nil {
		return err
	}
	size := int64(0)
	for _, f := range m.Files {
		size += f.Bytes
	}
	if *output == "json" {
		return printJSON(s.Out, map[string]any{
			"cluster": m.Cluster, "cluster_id": m.ClusterID, "partitions": m.Partitions, "bytes": strconv.FormatInt(size, 10), "folder": dir,
		})
	}
	_, err = fmt.Fprintf(s.Out, "cluster %s (%s): %d partitions, %d bytes in %s\n", m.Cluster, m.ClusterID, m.Partitions, size, dir)
	return err
}

// export is a backup's source.
func (n *node) export(ctx context.Context, group uint32, each func(*waystationv1.ExportGroupResponse) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := n.ExportGroup(ctx, &waystationv1.ExportGroupRequest{Group: group})
	for err == nil {
		var r *waystationv1.ExportGroupResponse
		if r, err = stream.Recv(); err == nil {
			if err := each(r); err != nil {
				return err
			}
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return explain(err, n.addr)
}

// runRestore makes a data folder out of a backup. It needs no node.
func runRestore(_ context.Context, s Streams, args []string) error {
	fs, output := flags("restore")
	data := fs.String("data-dir", "", "the new node's data `folder`, which must be new or empty")
	name := fs.String("name", "", "the new node's `name` (default: the host's name)")
	if err := parse(s, fs, args, "restore DIR --data-dir NEW [flags]"); err != nil {
		return helped(err)
	}
	if fs.NArg() != 1 || *data == "" {
		return usagef("restore: want the backup's folder, and --data-dir with a new one")
	}
	if *name == "" {
		*name = config.HostName()
	}
	logger := slog.New(slog.NewTextHandler(s.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	c, err := backup.Restore(fs.Arg(0), *data, *name, logger)
	if err != nil {
		return err
	}
	if *output == "json" {
		return printJSON(s.Out, map[string]any{"cluster": c.Name, "cluster_id": c.ID.String(), "node": *name, "data_dir": *data})
	}
	_, err = fmt.Fprintf(s.Out, "%s holds node %s, the only one of the new cluster %s (%s): start it with --data-dir %s\n", *data, *name, c.Name, c.ID, *data)
	return err
}
