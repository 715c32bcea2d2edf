package server_test

import (
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/internal/freeport"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/server"
	"github.com/waystation/waystation/storage"
)

// freePort is an address that nothing listens on, and nobody else comes by.
func freePort(t testing.TB) string {
	t.Helper()
	at, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func says(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Error("it was not refused")
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in: %v", w, err)
		}
	}
}

// TestJoinIsRefused: what must not become one cluster does not, and says which
// flag to change; the cluster goes on as it was.
func TestJoinIsRefused(t *testing.T) {
	first := start(t, dataDir(t))
	seed := first.Addresses.Gossip
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(base64.StdEncoding.EncodeToString([]byte("sixteen bytes .."))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	own := freePort(t)
	t.Run("each", func(t *testing.T) {
		for name, x := range map[string]struct {
			hooks       server.Hooks
			flags, want []string
		}{
			"a taken name":   {server.Hooks{}, []string{"--join", seed, "--name", "test"}, []string{"--name", "test"}},
			"itself":         {server.Hooks{}, []string{"--join", own, "--gossip", own}, []string{"--join", own, "this node"}},
			"another name":   {server.Hooks{}, []string{"--join", seed, "--cluster-name", "other"}, []string{"--cluster-name", "other", "waystation"}},
			"another key":    {server.Hooks{}, []string{"--join", seed, "--gossip-key-file", key}, []string{"--join", "--gossip-key-file", seed}},
			"another format": {server.Hooks{Format: storage.StateFormat + 1}, []string{"--join", seed, "--name", "newer"}, []string{"format " + strconv.Itoa(storage.StateFormat+1), "update"}},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				says(t, refusalWith(t, x.hooks, x.flags...), x.want...)
			})
		}
	})
	if n := len(first.describe().GetNodes()); n != 1 {
		t.Errorf("%d nodes", n)
	}
	first.publish("acme/api", "x")
}

// TestClustersNeverMerge: who has a cluster of its own and is told to join another
// one ends, and harms neither.
func TestClustersNeverMerge(t *testing.T) {
	first, dir := start(t, dataDir(t)), dataDir(t)
	other := start(t, dir, func(c *config.Config) { c.Name = "other" })
	other.publish("acme/mine", "x")
	mine, theirs := clusterID(other), clusterID(first)
	other.stop()
	says(t, refusal(t, "--data-dir", dir, "--join", first.Addresses.Gossip), mine, theirs, "--data-dir", "--join")
	first.publish("acme/api", "x")
	other = start(t, dir)
	if got := other.publish("acme/mine", "x"); got.Sequence != "2" {
		t.Errorf("receipt %+v", got)
	}
}

// TestCopiedFolder: a copy of a data folder does not run beside the original.
func TestCopiedFolder(t *testing.T) {
	first, dir := start(t, dataDir(t)), dataDir(t)
	second := start(t, dir, joining(first, "second"))
	second.stop()
	copied := dataDir(t)
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	second = start(t, dir, joining(first, "second"))
	says(t, refusal(t, "--data-dir", copied, "--join", first.Addresses.Gossip, "--name", "second"), "copy of this data folder", "--data-dir")
	if got := second.publish("acme/api", "x"); got.Sequence != "1" {
		t.Errorf("receipt %+v", got)
	}
	await(t, "both nodes to be up", func() bool { return first.state("test") == "up" && first.state("second") == "up" })
}

func (n *node) remove(name string) {
	n.t.Helper()
	err := n.operate(func(ctx context.Context) error {
		_, err := n.rpc.RemoveNode(ctx, &waystationv1.RemoveNodeRequest{Node: name})
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// TestRemovedNodeComesBack: it ends, and a start of it ends too; its name may be
// had again by a new one.
func TestRemovedNodeComesBack(t *testing.T) {
	first, dir := start(t, dataDir(t)), dataDir(t)
	second := start(t, dir, joining(first, "second"))
	first.remove("second")
	says(t, second.end(), "removed", "--data-dir")
	says(t, refusal(t, "--data-dir", dir, "--join", first.Addresses.Gossip, "--name", "second"), "removed", "--data-dir")
	first.publish("acme/api", "x")
	third := start(t, dataDir(t), joining(first, "second"))
	third.publish("acme/api", "x")
	if n := len(first.describe().GetNodes()); n != 2 {
		t.Errorf("%d nodes", n)
	}
}

// TestWrongClock: a node whose clock is off leads nothing, and says so.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	first := start(t, dataDir(t))
	start(t, dataDir(t), joining(first, "second"))
	wrong := startWith(t, dataDir(t), server.Hooks{Ahead: 2 * time.Hour}, joining(first, "third"))
	await(t, "three voters, and the wrong clock to be seen", func() bool {
		d := first.describe()
		for _, n := range d.GetNodes() {
			if n.GetName() == "third" && (n.GetLeaders() != 0 || !strings.HasPrefix(n.GetState(), "clock off by")) {
				return false
			}
		}
		return replicated(d, 3)
	})
	var own string
	for _, n := range wrong.describe().GetNodes() {
		if n.GetName() == "third" {
			own = n.GetState()
		}
	}
	if !strings.HasPrefix(own, "clock off by ") || !strings.Contains(own, "h") {
		t.Errorf("it says of itself: %q", own)
	}
	wrong.publish("acme/api", "x")
}

// TestPreviousFormatBesideTheNewOne: a node of an older build's storage format does
// not join, and one that was a member is refused when it comes back. Both are told
// which of the two is to be updated, and the others go on.
func TestPreviousFormatBesideTheNewOne(t *testing.T) {
	t.Parallel()
	newer := server.Hooks{Format: storage.StateFormat + 1}
	older, now := strconv.Itoa(storage.StateFormat), strconv.Itoa(storage.StateFormat+1)
	first, dir := startWith(t, dataDir(t), newer), dataDir(t)
	says(t, refusal(t, "--join", first.Addresses.Gossip, "--name", "older"), "storage format "+older, now, "update the older build")
	second := startWith(t, dir, newer, joining(first, "second"))
	second.stop()
	says(t, refusal(t, "--data-dir", dir, "--join", first.Addresses.Gossip, "--name", "second"), "storage format", older, now, "update the older")
	first.publish("acme/api", "x")
	second = startWith(t, dir, newer, joining(first, "second"))
	second.publish("acme/api", "x")
}
