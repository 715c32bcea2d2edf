package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/storage"
)

// TestFailedDiskEndsTheNode: what the stores and the engine report as the end is
// the end, with the reason, and soon.
func TestFailedDiskEndsTheNode(t *testing.T) {
	cfg := config.Default()
	cfg.Name, cfg.Listen, cfg.HTTP, cfg.Partitions = "test", "127.0.0.1:0", "127.0.0.1:0", 2
	cfg.Gossip, cfg.Peer, cfg.Join = "127.0.0.1:0", "127.0.0.1:0", "none"
	cfg.DataDir, cfg.MemoryLimit = filepath.Join(t.TempDir(), "data"), 256*config.MiB
	lock, err := storage.LockDir(nil, cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	r := &run{cfg: cfg, stdout: io.Discard, logger: slog.New(slog.DiscardHandler), registry: prometheus.NewRegistry(), fatal: make(chan error, 1)}
	r.founder = &founder{cfg: &r.cfg}
	ended := make(chan error, 1)
	go func() { ended <- r.run(context.Background()) }()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := config.ReadEndpoints(cfg.DataDir); err == nil {
			break
		}
		select {
		case <-tick.C:
		case err := <-ended:
			t.Fatalf("the node ended: %v", err)
		case <-deadline.C:
			t.Fatal("the node does not start")
		}
	}
	broken := errors.New("sync 000012.log: input/output error")
	r.fail(broken)
	r.fail(errors.New("what follows from it"))
	select {
	case err = <-ended:
	case <-deadline.C:
		t.Fatal("the node goes on")
	}
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "cannot go on") {
		t.Errorf("the reason: %v", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, config.EndpointsFile)); err == nil {
		t.Error("the endpoints file is still there")
	}
}

func TestSizesFitTheMemory(t *testing.T) {
	for _, memory := range []int64{128 * mib, 230 * mib, 256 * mib, 512 * mib, 1024 * mib, 4096 * mib, 65536 * mib} {
		s := sizes{memory: memory}
		l := config.Default().Limits
		outside := s.stores()
		if s.heap() < memory/2 || memory >= 230*mib && s.heap()+outside > memory {
			t.Errorf("%d MiB: heap %d MiB and stores %d MiB", memory/mib, s.heap()/mib, outside/mib)
		}
		// What is counted must leave room for what is not.
		if held := int64(s.intake(&l)) + s.bodies() + memory/8; held > s.heap()*2/3 && memory >= 230*mib {
			t.Errorf("%d MiB: %d MiB of buffers in a heap of %d MiB", memory/mib, held/mib, s.heap()/mib)
		}
		if w := limits(&l); s.message() < w.MessageBytes() || s.intake(&l) < w.MessageBytes() {
			t.Errorf("%d MiB: message %d MiB, intake %d MiB", memory/mib, s.message()/mib, s.intake(&l)/mib)
		}
	}
	l := config.Default().Limits
	l.IntakeBytes = 77 * config.MiB
	if got := (sizes{memory: 256 * mib}).intake(&l); got != 77*mib {
		t.Errorf("--intake-bytes is not heard: %d", got)
	}
}
