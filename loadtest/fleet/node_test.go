package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain is the node, too: the fleet starts this very program again.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == NodeArgument {
		os.Exit(fakeNode(os.Args[2]))
	}
	goleak.VerifyTestMain(m)
}

// fakeNode listens, writes its endpoints, and says that it is ready.
func fakeNode(arg string) int {
	var spec Spec
	if err := json.Unmarshal([]byte(arg), &spec); err != nil {
		return 1
	}
	if spec.Cluster == "broken" {
		_, _ = os.Stdout.WriteString("the reason why\n")
		return 7
	}
	_ = os.MkdirAll(spec.DataDir, 0o755)
	grpc, err1 := net.Listen("tcp", spec.Addresses.GRPC)
	web, err2 := net.Listen("tcp", spec.Addresses.HTTP)
	if err1 != nil || err2 != nil {
		return 1
	}
	file, _ := json.Marshal(map[string]any{
		"pid":       os.Getpid(),
		"addresses": map[string]string{"grpc": grpc.Addr().String(), "http": web.Addr().String()},
	})
	if os.WriteFile(filepath.Join(spec.DataDir, "endpoints.json"), file, 0o600) != nil {
		return 1
	}
	go func() {
		_ = http.Serve(web, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // a test
			if r.URL.Path == "/quit" {
				os.Exit(3)
			}
			w.WriteHeader(http.StatusOK)
		}))
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func start(t *testing.T) *Node {
	t.Helper()
	n, err := Start(t.Context(), t.TempDir(), "node-1", "good")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return n
}

func TestKillAndRestartKeepsAddresses(t *testing.T) {
	n := start(t)
	address, pid := n.Address(), n.process.pid()
	if strings.HasSuffix(address, ":0") {
		t.Fatalf("address %s is not known", address)
	}
	for range 2 {
		took, err := n.KillAndRestart(t.Context())
		if err != nil || took <= 0 {
			t.Fatalf("took %v, %v", took, err)
		}
		if n.Address() != address || n.process.pid() == pid {
			t.Fatalf("%s, process %d; was %s, process %d", n.Address(), n.process.pid(), address, pid)
		}
		pid = n.process.pid()
	}
	select {
	case err := <-n.Died():
		t.Fatalf("a kill was taken for an accident: %v", err)
	default:
	}
	if u := n.Usage(); CanPause && u.RSSBytes == 0 {
		t.Errorf("usage %+v", u)
	}
}

func TestPause(t *testing.T) {
	if !CanPause {
		if err := start(t).Pause(t.Context(), time.Millisecond); !errors.Is(err, errors.ErrUnsupported) {
			t.Fatalf("got %v", err)
		}
		return
	}
	n := start(t)
	// A pause ends with its context too; then the node goes on as if nothing had been.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Pause(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	if !answers(t.Context(), n.spec.Addresses.HTTP) {
		t.Error("the node does not answer after its pause")
	}
}

func TestDied(t *testing.T) {
	n := start(t)
	resp, err := http.Get("http://" + n.spec.Addresses.HTTP + "/quit")
	if err == nil {
		_ = resp.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	select {
	case err := <-n.Died():
		if !strings.Contains(err.Error(), "exit status 3") {
			t.Errorf("got %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nobody noticed")
	}
	if took, err := n.KillAndRestart(t.Context()); took != 0 || err != nil {
		t.Errorf("a dead node was killed: %v, %v", took, err)
	}
}

func TestStartTellsWhyNot(t *testing.T) {
	_, err := Start(t.Context(), t.TempDir(), "node-1", "broken")
	if !errors.Is(err, errEnded) || !strings.Contains(err.Error(), "the reason why") {
		t.Fatalf("got %v", err)
	}
}

// A node must not outlive the load test, however that ends.
func TestNodeEndsWithItsParent(t *testing.T) {
	n := start(t)
	if err := n.process.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-n.process.done:
	case <-time.After(30 * time.Second):
		t.Fatal("the node lives on")
	}
}

func TestStopTwice(t *testing.T) {
	n := start(t)
	n.Stop()
	n.Stop()
	if !n.process.ended() {
		t.Error("the node lives on")
	}
	if took, err := n.KillAndRestart(t.Context()); took != 0 || err != nil {
		t.Errorf("a stopped node was started: %v, %v", took, err)
	}
}
