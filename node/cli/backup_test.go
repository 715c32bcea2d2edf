package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waystation/waystation/node/config"
)

// TestRestoredNodeHasAName: the host's, as any node's without --name, and it serves
// what was in the backup.
func TestRestoredNodeHasAName(t *testing.T) {
	startNode(t)
	if r := cli(t, "kept", "send", "--repo", "acme/api"); r.code != 0 {
		t.Fatalf("send: %+v", r)
	}
	cli(t, "", "backup", "saved").says(t, 0, "4 partitions")
	cli(t, "", "backup", "saved").says(t, 1, "saved")
	cli(t, "", "restore", "saved", "--data-dir", "again").says(t, 0, "node "+config.HostName()+",")
	cli(t, "", "restore", "saved", "--data-dir", "again").says(t, 1, "again")
	cfg := config.Default()
	cfg.Listen, cfg.HTTP, cfg.Gossip, cfg.Peer = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Join, cfg.DataDir, cfg.Name, cfg.Limits.DiskReserve = "none", "again", config.HostName(), 0
	e, _ := serve(t, cfg)
	r := cli(t, "", "tail", "acme/api", "--addr", e.Addresses.GRPC)
	if r.says(t, 0, "kept"); len(r.lines()) != 1 {
		t.Errorf("%+v", r)
	}
	damaged := filepath.Join("saved", "manifest.json")
	if err := os.Remove(damaged); err != nil {
		t.Fatal(err)
	}
	if r := cli(t, "", "restore", "saved", "--data-dir", "third"); r.code != 1 || !strings.Contains(r.err, "not a complete backup") {
		t.Errorf("%+v", r)
	}
}
