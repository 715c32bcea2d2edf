package cli

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waystation/waystation/node/backup"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/server"
)

// oneLife makes a node's data folder, on which no node runs any more.
func oneLife(t *testing.T) (dir string) {
	t.Helper()
	cfg := config.Default()
	cfg.Name, cfg.Listen, cfg.HTTP, cfg.Partitions, cfg.Limits.DiskReserve = "test", "127.0.0.1:0", "127.0.0.1:0", 2, 0
	cfg.Gossip, cfg.Peer, cfg.Join, cfg.DataDir = "127.0.0.1:0", "127.0.0.1:0", "none", filepath.Join(t.TempDir(), "data")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	serves := writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }) // the banner
	if err := server.Run(ctx, cfg, serves, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return cfg.DataDir
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

var _ io.Writer = writerFunc(nil)

// TestRecover: nothing is done without --accept-loss, which is a no; what would be
// done and what was done are said, in JSON too.
func TestRecover(t *testing.T) {
	dir := oneLife(t)
	for _, args := range [][]string{{"recover"}, {"recover", dir}, {"recover", "--data-dir", dir, "--nonsense"}} {
		if r := cli(t, "", args...); r.code != exitUsage {
			t.Errorf("%v: exit code %d", args, r.code)
		}
	}
	if r := cli(t, "", "recover", "--data-dir", t.TempDir(), "--accept-loss"); r.code != exitNo || !strings.Contains(r.err, "not a data folder") {
		t.Errorf("an empty folder: %+v", r)
	}
	r := cli(t, "", "recover", "--data-dir", dir)
	if r.code != exitNo || !strings.Contains(r.err, "--accept-loss") || !strings.Contains(r.out, "nobody") || !strings.Contains(r.out, "MAY BE LOST") {
		t.Errorf("without --accept-loss: %+v", r)
	}
	for _, want := range []struct {
		code int
		args []string
	}{{exitNo, nil}, {exitGood, []string{"--accept-loss"}}} {
		r := cli(t, "", append([]string{"recover", "--data-dir", dir, "--output", "json"}, want.args...)...)
		var p backup.Plan
		if err := json.Unmarshal([]byte(r.out), &p); err != nil || r.code != want.code || p.Done != (want.code == exitGood) || len(p.Groups) != 3 {
			t.Errorf("%v: %+v, %v", want.args, r, err)
		}
	}
	if r := cli(t, "", "recover", "--data-dir", dir, "--accept-loss"); r.code != exitGood || !strings.Contains(r.out, "start it with --data-dir") {
		t.Errorf("again: %+v", r)
	}
}
