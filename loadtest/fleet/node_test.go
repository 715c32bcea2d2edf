package fleet

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func start(t *testing.T) *Node {
	t.Helper()
	n, err := StartNode(t.Context(), t.TempDir(), Spec{Name: "node-1", Cluster: "good"}, Here())
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
		took, err := n.KillAndRestart(t.Context(), 0)
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
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := n.process.ready(ctx, n.spec.DataDir); err != nil {
		t.Errorf("the node does not answer after its pause: %v", err)
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
	if took, err := n.KillAndRestart(t.Context(), 0); took != 0 || err != nil {
		t.Errorf("a dead node was killed: %v, %v", took, err)
	}
}

func TestStartTellsWhyNot(t *testing.T) {
	_, err := StartNode(t.Context(), t.TempDir(), Spec{Name: "node-1", Cluster: "broken"}, Here())
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
	if took, err := n.KillAndRestart(t.Context(), 0); took != 0 || err != nil {
		t.Errorf("a stopped node was started: %v, %v", took, err)
	}
}
