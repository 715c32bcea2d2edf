package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/backup"
)

// export is a backup's source.
func (n *node) export(ctx context.Context, group uint32, each func(*waystationv1.ExportGroupResponse) error) error {
	stream, err := n.rpc.ExportGroup(ctx, &waystationv1.ExportGroupRequest{Group: group})
	for err == nil {
		var r *waystationv1.ExportGroupResponse
		if r, err = stream.Recv(); err == nil {
			err = each(r)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (n *node) backup(dir string) *backup.Manifest {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	m, err := backup.Write(ctx, dir, len(n.describe().GetPartitions()), n.export, func(backup.File) {})
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

// TestRestoreHasEverything: packets, ids, positions of groups and dead letters are
// there in the new cluster, and a lease of the old one is worth nothing once
// another was given.
func TestRestoreHasEverything(t *testing.T) {
	old := start(t, dataDir(t))
	for i := range 12 {
		old.publish(fmt.Sprintf("acme/r%d", i%4), fmt.Sprintf("content %d", i), "Waystation-Packet-Id", fmt.Sprintf("id-%d", i))
	}
	dead := old.take("default", 1, "")[0]
	if status := dead.settle(old, "default", "dead", nil); status != http.StatusOK {
		t.Fatalf("settle: %d", status)
	}
	held := old.take("default", 1, `,"lease_ms":1000`)[0]
	dir := filepath.Join(t.TempDir(), "backup")
	m := old.backup(dir)
	id := clusterID(old)
	old.stop()
	data := dataDir(t)
	c, err := backup.Restore(dir, data, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if c.ID.String() == id || m.ClusterID == c.ID.String() {
		t.Error("the new cluster has the old one's id")
	}
	next := start(t, data)
	if clusterID(next) != c.ID.String() {
		t.Errorf("the node is of cluster %s, restored was %s", clusterID(next), c.ID)
	}
	for i := range 12 {
		r := next.publish(fmt.Sprintf("acme/r%d", i%4), fmt.Sprintf("content %d", i), "Waystation-Packet-Id", fmt.Sprintf("id-%d", i))
		if !r.Duplicate || r.Differs {
			t.Errorf("packet %d is not known any more: %+v", i, r)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	letters, err := next.rpc.ListDeadLetters(ctx, &waystationv1.ListDeadLettersRequest{Group: "default"})
	if err != nil || len(letters.GetDead()) != 1 {
		t.Errorf("dead letters: %v, %v", letters, err)
	}
	seen := map[string]int{}
	for end := time.Now().Add(time.Minute); len(seen) < 11 && time.Now().Before(end); {
		for _, d := range next.pull("default", `{"max":4,"wait_ms":1000,"lease_ms":1000}`) {
			if d.RepoID == held.RepoID && d.Sequence == held.Sequence {
				stale := d
				stale.LeaseToken = held.LeaseToken
				var answer struct {
					Results []struct {
						Error *struct{ Code string } `json:"error"`
					} `json:"results"`
				}
				if stale.settle(next, "default", "done", &answer); d.LeaseToken == held.LeaseToken || len(answer.Results) != 1 || answer.Results[0].Error == nil {
					t.Errorf("a lease from before the backup was good: %+v", answer)
				}
			}
			d.settle(next, "default", "done", nil)
			seen[string(d.Content)]++
		}
	}
	if len(seen) != 11 {
		t.Errorf("%d packets of 11 were there: %v", len(seen), seen)
	}
	next.agree(t, 1)
}

// TestRestoreRefuses: what is no whole backup makes no data folder.
func TestRestoreRefuses(t *testing.T) {
	n := start(t, dataDir(t))
	n.publish("acme/r", "content")
	whole := filepath.Join(t.TempDir(), "backup")
	n.backup(whole)
	if _, err := backup.Write(t.Context(), whole, 4, n.export, func(backup.File) {}); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("a backup over another: %v", err)
	}
	logger := slog.New(slog.DiscardHandler)
	for name, x := range map[string]struct {
		spoil func(dir string) error
		want  error
		says  string
	}{
		"no backup":      {func(d string) error { return os.RemoveAll(d) }, backup.ErrIncomplete, "manifest.json"},
		"interrupted":    {func(d string) error { return os.Remove(filepath.Join(d, "manifest.json")) }, backup.ErrIncomplete, "manifest.json"},
		"a file missing": {func(d string) error { return os.Remove(filepath.Join(d, "group-00002.wsb")) }, backup.ErrIncomplete, "group-00002.wsb"},
		"a flipped bit": {func(d string) error {
			return edit(filepath.Join(d, "group-00001.wsb"), func(b []byte) { b[len(b)/2] ^= 1 })
		}, backup.ErrDamaged, "group-00001.wsb"},
		"another format":  {func(d string) error { return replace(filepath.Join(d, "manifest.json"), `"format": 1`, `"format": 9`) }, backup.ErrFormat, "9"},
		"broken manifest": {func(d string) error { return os.WriteFile(filepath.Join(d, "manifest.json"), []byte("{"), 0o600) }, backup.ErrDamaged, "manifest.json"},
	} {
		dir, data := filepath.Join(t.TempDir(), "copy"), dataDir(t)
		if err := errors.Join(os.CopyFS(dir, os.DirFS(whole)), x.spoil(dir)); err != nil {
			t.Fatal(err)
		}
		_, err := backup.Restore(dir, data, "test", logger)
		if !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v", name, err)
		}
		if list, _ := os.ReadDir(data); len(list) > 0 {
			t.Errorf("%s: a data folder was made: %v", name, list)
		}
	}
	if _, err := backup.Restore(whole, n.dir, "test", logger); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("into a data folder in use: %v", err)
	}
}

func edit(path string, change func([]byte)) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	change(data)
	return os.WriteFile(path, data, 0o600)
}

func replace(path, from, to string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strings.Replace(string(data), from, to, 1)), 0o600)
}
