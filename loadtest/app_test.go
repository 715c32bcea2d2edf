package main

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/waystation/waystation/loadtest/fleet"
	"github.com/waystation/waystation/loadtest/report"
)

// TestMain is the node, too: the fleet starts this very program again.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == fleet.NodeArgument {
		os.Exit(runNode(os.Args[2], os.Stdin, os.Stdout, os.Stderr))
	}
	if fleet.InNamespace() {
		os.Exit(loadTest())
	}
	goleak.VerifyTestMain(m)
}

// loadtest runs the program in a temporary folder of its own.
func loadtest(t *testing.T, args string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	var out, errs strings.Builder
	code = run(t.Context(), strings.Fields(args), &out, &errs)
	return code, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	for _, tc := range []struct {
		args   string
		code   int
		stdout string
		stderr string
	}{
		{"--help", exitGood, "Exit codes", ""},
		{"--nodes 10", exitUsage, "", "1 to 9"},
		{"--burst 2x", exitUsage, "", "not in this version"},
		{"--source /does/not/exist", exitUsage, "", "--source"},
		{"--workload synthetic --target 127.0.0.1:1", exitFailed, "", "127.0.0.1:1"},
	} {
		code, stdout, stderr := loadtest(t, tc.args)
		if code != tc.code || !strings.Contains(stdout, tc.stdout) || !strings.Contains(stderr, tc.stderr) {
			t.Errorf("%s: exit %d\n%s%s", tc.args, code, stdout, stderr)
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	t.Setenv("TMPDIR", t.TempDir())
	var out, errs strings.Builder
	if code := run(ctx, []string{"--workload", "synthetic"}, &out, &errs); code != exitFailed {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// decode reads a report and checks what must hold in every good one.
func decode(t *testing.T, text string) report.Report {
	t.Helper()
	var r report.Report
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if r.Sent != r.Acked+r.Rejected+r.Unknown || r.Acked == 0 || r.Verdict != "ok" || r.AckedPerS <= 0 {
		t.Errorf("got %+v", r)
	}
	if r.Nodes != 1 || r.Partitions == 0 {
		t.Errorf("%d nodes, %d partitions", r.Nodes, r.Partitions)
	}
	return r
}

const short = " --warmup 100ms --duration 1s --window 256 --json - "

func TestPublishAndReadBack(t *testing.T) {
	for _, ids := range []string{"position", "id"} {
		code, stdout, stderr := loadtest(t, short+"--workload synthetic --repos 50 --phases publish --resend 0.2 --seed 7 --ids "+ids)
		if code != exitGood {
			t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
		}
		r := decode(t, stdout)
		if r.Settled != 0 || r.Seed != 7 {
			t.Errorf("got %+v", r)
		}
		// Each goes again with the probability of a fifth: of the few that a busy machine
		// has got done, that is some more or some less.
		fifth := float64(r.Acked) / 5
		if off := math.Abs(float64(r.Deduplicated) - fifth); off > max(fifth/4, 5*math.Sqrt(fifth*4/5)) {
			t.Errorf("--ids %s: %d of %d packets deduplicated, want a fifth\n%s", ids, r.Deduplicated, r.Acked, stderr)
		}
	}
}

func TestKillsUnderLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	for name, content := range map[string]string{"a/1.go": "package a", "a/b/2.go": "", "c/3.go": "package c", "go.mod": "module x"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, stdout, stderr := loadtest(t, short+"--duration 2s --resend 0.05 --fault kill:every=700ms --source "+dir)
	if code != exitGood {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	r := decode(t, stdout)
	if r.Settled+r.Dead < r.Acked || r.Deduplicated == 0 || r.MaxGapMs == 0 {
		t.Errorf("got %+v", r)
	}
	if !strings.Contains(stderr, "× kill: ") {
		t.Errorf("nothing was killed:\n%s", stderr)
	}
	if r.RSSMb == nil && fleet.CanPause && exists("/proc/self/io") {
		t.Error("no memory figure")
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// The load lasts until the nodes have gone through what was asked for, and a restart
// falls into what is measured: on a slow machine it takes all of that, and there is no
// speed to speak of.
func TestStagesAreFinishedUnderLoad(t *testing.T) {
	code, stdout, stderr := loadtest(t, short+"--grow 1,2,1 --workload synthetic --repos 20 --rate 200")
	if code != exitGood || !strings.Contains(stderr, "! shrink from 2 to 1 nodes") {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = loadtest(t, short+"--rolling-restart --workload synthetic --repos 20 --rate 200")
	if code != exitGood || !strings.Contains(stderr, "! restart node-1") {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	var r report.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || r.Verdict != "ok" || r.MaxGapMs < 10 {
		t.Errorf("%v: the longest gap is %v ms: the restart was not measured\n%s%s", err, r.MaxGapMs, stdout, stderr)
	}
}

// Real nodes with proxies between them, where there may be no rights for more: they
// become a cluster, one is cut off, and nothing is lost.
func TestPartitionsThroughProxies(t *testing.T) {
	code, stdout, stderr := loadtest(t, short+"--duration 2s --nodes 3 --between proxies --workload synthetic --repos 20 --rate 100 --fault partition:every=1s,for=700ms")
	if code != exitGood {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	for _, want := range []string{"with proxies between them", "! cut node-"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is not in\n%s", want, stderr)
		}
	}
}

func TestTarget(t *testing.T) {
	node, err := fleet.StartNode(t.Context(), t.TempDir(), fleet.Spec{Name: "target", Cluster: "loadtest-target", Join: "none", Replication: 3}, fleet.Here())
	if err != nil {
		t.Fatal(err)
	}
	defer node.Stop()
	// Twice, with one seed: the second run must not meet the first one's packets.
	for range 2 {
		code, stdout, stderr := loadtest(t, short+"--workload synthetic --repos 20 --rate 500 --seed 1 --target "+node.Address())
		if code != exitGood {
			t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
		}
		r := decode(t, stdout)
		if r.RSSMb != nil || r.CPUSPerMillion != nil || r.DiskBytesPerPacket != nil {
			t.Errorf("figures of somebody else's node: %+v", r)
		}
	}
}
