package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/internal/written"
	"github.com/waystation/waystation/node/config"
)

// startTarget runs a second cluster's node beside startNode's.
func startTarget(t *testing.T, change func(*config.Config)) (cfg config.Config, e *config.Endpoints, stop func()) {
	t.Helper()
	cfg = config.Default()
	cfg.Name, cfg.ClusterName, cfg.Partitions, cfg.Limits.DiskReserve = "target", "other", 2, 0
	cfg.Listen, cfg.HTTP, cfg.Gossip, cfg.Peer, cfg.Join = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "none"
	cfg.DataDir = filepath.Join(t.TempDir(), "target")
	change(&cfg)
	e, stop = serve(t, cfg)
	cfg.Listen = e.Addresses.GRPC // comes back there
	return cfg, e, stop
}

// arrived is what a repository of a cluster holds, a line a packet.
func arrived(t *testing.T, addr, repo string) []string {
	t.Helper()
	r := cli(t, "", "tail", repo, "--addr", addr, "--from", "1", "--output", "json")
	var lines []string
	for _, line := range r.lines() {
		var p struct {
			PacketID string `json:"packet_id"`
			Content  []byte
			Priority string
			Kind     string
			Metadata map[string]string
		}
		if line == "" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatalf("tail: %+v: %v", r, err)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %s %s", p.Content, p.PacketID, p.Priority, p.Kind, p.Metadata["branch"]))
	}
	return lines
}

// mirrorStats runs a mirror until nothing is left.
func mirrorStats(t *testing.T, args ...string) (x struct{ Forwarded, Duplicates, Skipped, Refused string }) {
	t.Helper()
	r := cli(t, "", append([]string{"mirror", "--exit-when-empty", "--output", "json"}, args...)...)
	if err := json.Unmarshal([]byte(r.out), &x); err != nil || r.code != 0 {
		t.Fatalf("mirror: %+v: %v", r, err)
	}
	return x
}

func TestMirror(t *testing.T) {
	source := startNode(t).Addresses.GRPC
	_, e, _ := startTarget(t, func(*config.Config) {})
	target := e.Addresses.GRPC
	if r := cli(t, "", "group", "create", "once-more", "--addr", source, "--order-policy", "block"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	var want []string
	for i := range 40 {
		id := fmt.Sprintf("id-%d", i)
		if r := cli(t, fmt.Sprint(i), "send", "--addr", source, "--repo", "acme/api", "--id", id, "--kind", "diff", "--meta", "branch=main"); r.code != 0 {
			t.Fatalf("send: %+v", r)
		}
		want = append(want, fmt.Sprintf("%d %s NORMAL diff main", i, id))
	}
	if r := cli(t, "no id", "send", "--addr", source, "--repo", "acme/web"); r.code != 0 {
		t.Fatalf("send: %+v", r)
	}
	if x := mirrorStats(t, "--addr", source, "--to", target); x.Forwarded != "41" || x.Duplicates != "0" {
		t.Errorf("first: %+v", x)
	}
	if got := arrived(t, target, "acme/api"); !slices.Equal(got, want) {
		t.Errorf("arrived:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := arrived(t, target, "acme/web"); len(got) != 1 || !strings.HasPrefix(got[0], "no id mirror/") {
		t.Errorf("without an id: %v", got)
	}
	// It goes on where it was.
	cli(t, "later", "send", "--addr", source, "--repo", "acme/api", "--id", "later")
	if x := mirrorStats(t, "--addr", source, "--to", target); x.Forwarded != "1" || x.Duplicates != "0" {
		t.Errorf("again: %+v", x)
	}
	// Nothing comes back to where it came from.
	if x := mirrorStats(t, "--addr", target, "--to", source); x.Forwarded != "0" || x.Skipped != "42" {
		t.Errorf("the other way: %+v", x)
	}
	if got := arrived(t, source, "acme/api"); len(got) != 41 {
		t.Errorf("the source has %d packets, want 41", len(got))
	}
	// Whatever is sent twice is there once: another group begins at the beginning.
	if x := mirrorStats(t, "--addr", source, "--to", target, "--group", "once-more"); x.Forwarded != "42" || x.Duplicates != "42" {
		t.Errorf("from the beginning: %+v", x)
	}
}

// TestMirrorRefused: what the target refuses for good holds its lane, and no other,
// until somebody has looked at it.
func TestMirrorRefused(t *testing.T) {
	source := startNode(t).Addresses.GRPC
	_, e, _ := startTarget(t, func(c *config.Config) { c.Limits.ContentBytes = 10 })
	target := e.Addresses.GRPC
	for repo, contents := range map[string][]string{"acme/api": {"a", "more than it takes", "b"}, "acme/web": {"c"}} {
		for _, content := range contents {
			if r := cli(t, content, "send", "--addr", source, "--repo", repo, "--id", content); r.code != 0 {
				t.Fatalf("send: %+v", r)
			}
		}
	}
	if x := mirrorStats(t, "--addr", source, "--to", target, "--group", "m"); x.Forwarded != "2" || x.Refused != "1" {
		t.Errorf("refused: %+v", x)
	}
	if r := cli(t, "", "dead", "list", "--addr", source, "--group", "m"); !strings.Contains(r.out, "content") || !strings.Contains(r.out, "rejected") {
		t.Errorf("dead letters: %+v", r)
	}
	if r := cli(t, "", "dead", "discard", "--addr", source, "--group", "m", "--repo", "acme/api"); r.out != "discarded: 1\n" {
		t.Errorf("discard: %+v", r)
	}
	if x := mirrorStats(t, "--addr", source, "--to", target, "--group", "m"); x.Forwarded != "1" {
		t.Errorf("afterwards: %+v", x)
	}
	if got := arrived(t, target, "acme/api"); len(got) != 2 || !strings.HasPrefix(got[1], "b ") {
		t.Errorf("arrived: %v", got)
	}
}

// TestMirrorWaits: while the target is away, nothing is lost and no attempt is spent.
func TestMirrorWaits(t *testing.T) {
	source := startNode(t).Addresses.GRPC
	cfg, e, stop := startTarget(t, func(*config.Config) {})
	target := e.Addresses.GRPC
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errs written.Text
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, Streams{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: os.LookupEnv},
			[]string{"mirror", "--addr", source, "--to", target, "--group", "m"})
	}()
	cli(t, "first", "send", "--addr", source, "--repo", "acme/api", "--id", "first")
	until(t, "the first packet", func() bool { return len(arrived(t, target, "acme/api")) == 1 })
	stop()
	for i := range 5 {
		cli(t, fmt.Sprint(i), "send", "--addr", source, "--repo", "acme/api", "--id", fmt.Sprint(i))
	}
	_ = os.Remove(filepath.Join(cfg.DataDir, "endpoints.json")) // not what the one before said
	serve(t, cfg)
	until(t, "all packets", func() bool { return len(arrived(t, target, "acme/api")) == 6 })
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("ended with %d: %s", code, errs.String())
	}
	if got := arrived(t, target, "acme/api"); len(got) != 6 || !strings.HasPrefix(got[5], "4 4 ") {
		t.Errorf("arrived: %v", got)
	}
	if r := cli(t, "", "dead", "list", "--addr", source, "--group", "m"); len(r.lines()) != 1 {
		t.Errorf("dead letters: %+v", r)
	}
}

func TestMirrorUsage(t *testing.T) {
	e := startNode(t)
	_, other, _ := startTarget(t, func(*config.Config) {})
	if r := cli(t, "", "group", "create", "skips"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	for name, x := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no target":       {nil, 2, "--to"},
		"argument":        {[]string{"--to", other.Addresses.GRPC, "x"}, 2, "argument"},
		"concurrency":     {[]string{"--to", other.Addresses.GRPC, "--concurrency", "0"}, 2, "--concurrency"},
		"itself":          {[]string{"--to", e.Addresses.GRPC}, 1, "same cluster"},
		"another policy":  {[]string{"--to", other.Addresses.GRPC, "--group", "skips"}, 1, "group set skips --order-policy block"},
		"no such address": {[]string{"--to", "127.0.0.1:1"}, 3, "--to"},
	} {
		if r := cli(t, "", append([]string{"mirror"}, x.args...)...); r.code != x.code || !strings.Contains(r.err, x.want) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}
