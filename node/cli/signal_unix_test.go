//go:build unix

package cli

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waystation/waystation/node/config"
)

// process runs the test binary as the command line, and returns it with what it
// writes.
func process(t *testing.T, args ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childCommand+"="+strings.Join(args, "\n"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		stuck.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, bufio.NewReader(out)
}

// TestNodeEndsWithSIGTERM: as a process, with its exit code.
func TestNodeEndsWithSIGTERM(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		dir := filepath.Join(t.TempDir(), "data")
		cmd, out := process(t, "--data-dir", dir, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
			"--gossip", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--join", "none", "--partitions", "2")
		banner, err := out.ReadString('\n')
		if err != nil || !strings.Contains(banner, config.Version()) {
			t.Fatalf("banner: %q, %v", banner, err)
		}
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v", s, err)
		}
		if _, err := os.Stat(filepath.Join(dir, config.EndpointsFile)); !os.IsNotExist(err) {
			t.Errorf("%v: endpoints file: %v", s, err)
		}
	}
}

// TestWorkerFinishesAndEnds: the first signal lets the command that runs end by
// itself; the second ends the command too.
func TestWorkerFinishesAndEnds(t *testing.T) {
	startNode(t)
	for _, x := range []struct {
		name    string
		signals int
		script  string
		state   string
	}{
		{"one signal", 1, `echo started; while [ ! -e go ]; do sleep 0.05; done; touch done`, "done"},
		{"two signals", 2, `echo started; sleep 60; touch done`, "waiting"},
	} {
		_ = os.Remove("done")
		_ = os.Remove("go")
		repo := "acme/" + strings.ReplaceAll(x.name, " ", "-")
		if r := cli(t, "x", "send", "--repo", repo); r.code != 0 {
			t.Fatalf("%+v", r)
		}
		cmd, out := process(t, "work", "--group", strings.ReplaceAll(x.name, " ", "-"), "--", "sh", "-c",
			`if [ "$WAYSTATION_REPO" = `+repo+` ]; then `+x.script+`; fi`)
		if line, err := out.ReadString('\n'); err != nil || line != "started\n" {
			t.Fatalf("%s: the command: %q, %v", x.name, line, err)
		}
		for range x.signals {
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			// It says when it has heard: two signals that come together are one.
			if line, err := out.ReadString('\n'); err != nil || !strings.HasPrefix(line, "waystation: ") {
				t.Fatalf("%s: after a signal: %q, %v", x.name, line, err)
			}
		}
		if x.signals == 1 {
			if err := os.WriteFile("go", nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", x.name, err)
		}
		if _, err := os.Stat("done"); (err == nil) != (x.state == "done") {
			t.Errorf("%s: the command's work: %v", x.name, err)
		}
	}
}
