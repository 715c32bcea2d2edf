// Package fleet runs the load test's own nodes as real processes, so that a
// kill is a real kill, and does to them what the faults ask for.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/waystation/waystation/loadtest/report"
)

// startTimeout bounds a node's start, recovery included.
const startTimeout = 60 * time.Second

// Node is a node of the run's own, over all its incarnations. Its methods may be
// called from several goroutines; faults wait for each other.
type Node struct {
	spec Spec
	log  *os.File

	mu      sync.Mutex // held for as long as a fault takes
	process *process
	stopped bool
	died    chan error // one unexpected end at most

	usage usage
}

// Start starts a node in a folder of its own under dir and waits until it serves.
func Start(ctx context.Context, dir, name, cluster string) (*Node, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	n := &Node{
		spec: Spec{Name: name, Cluster: cluster, DataDir: filepath.Join(dir, name), Addresses: AnyPort()},
		log:  log,
		died: make(chan error, 1),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.start(ctx); err != nil {
		_ = n.log.Close()
		return nil, err
	}
	return n, nil
}

// Address is where the node's gRPC API listens, in every incarnation.
func (n *Node) Address() string { return n.spec.Addresses.GRPC }

// Died yields the reason when the node ends without having been told to.
func (n *Node) Died() <-chan error { return n.died }

// start is called under mu.
func (n *Node) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready after %v", startTimeout))
	defer cancel()
	// A port that was free a moment ago may have become some connection's own
	// end; that passes.
	const tries = 3
	for try := 1; ; try++ {
		err := n.tryStart(ctx)
		if err == nil {
			return nil
		}
		if try == tries || !errors.Is(err, errEnded) {
			return fmt.Errorf("start node %s: %w\n%s", n.spec.Name, err, n.LogTail())
		}
	}
}

func (n *Node) tryStart(ctx context.Context) error {
	p, err := spawn(n.spec, n.log)
	if err != nil {
		return err
	}
	addresses, err := p.ready(ctx, n.spec.DataDir)
	if err != nil {
		p.kill()
		return err
	}
	// The next incarnation is to be found where this one is.
	n.spec.Addresses.keep(addresses)
	n.process = p
	go n.watch(p)
	return nil
}

// watch reports an end that nobody asked for.
func (n *Node) watch(p *process) {
	<-p.done
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != p || n.stopped {
		return
	}
	select {
	case n.died <- fmt.Errorf("node %s ended by itself (%w):\n%s", n.spec.Name, exitReason(p.err), n.LogTail()):
	default:
	}
}

func exitReason(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// KillAndRestart ends the node without warning and starts it on the same data
// and addresses. It returns once it serves again, and how long that took.
func (n *Node) KillAndRestart(ctx context.Context) (time.Duration, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped || n.process.ended() {
		return 0, nil
	}
	begin := time.Now()
	n.usage.leave(n.process.pid())
	killed := n.process
	n.process = nil
	killed.kill()
	_ = killed.stdin.Close()
	if err := n.start(ctx); err != nil {
		// There is no process to stop any more.
		n.stopped = true
		return 0, err
	}
	return time.Since(begin), nil
}

// Pause stops the node where it stands, and lets it go on after d or when ctx ends.
func (n *Node) Pause(ctx context.Context, d time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped || n.process.ended() {
		return nil
	}
	if err := suspend(n.process.cmd.Process); err != nil {
		return fmt.Errorf("pause node %s: %w", n.spec.Name, err)
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	if err := resume(n.process.cmd.Process); err != nil {
		return fmt.Errorf("resume node %s: %w", n.spec.Name, err)
	}
	return nil
}

// Usage returns what the node has taken so far, over all incarnations.
func (n *Node) Usage() report.Usage {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return n.usage.total(0, n.spec.DataDir)
	}
	return n.usage.total(n.process.pid(), n.spec.DataDir)
}

// Stop ends the node and waits for its end. A second call does nothing. The
// node's data is of no use to anyone after the run, so it is not asked to drain.
func (n *Node) Stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return
	}
	n.stopped = true
	n.process.kill()
	_ = n.process.stdin.Close()
	_ = n.log.Close()
}

// LogTail returns the last lines that the node has written.
func (n *Node) LogTail() string {
	const most = 4096
	info, err := n.log.Stat()
	if err != nil {
		return ""
	}
	from := max(0, info.Size()-most)
	b := make([]byte, info.Size()-from)
	read, _ := n.log.ReadAt(b, from)
	return string(b[:read])
}
