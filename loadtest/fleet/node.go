package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/waystation/waystation/loadtest/report"
)

// startTimeout bounds a node's start, recovery included; stopTimeout its end
// after it was asked to drain.
const (
	startTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
)

// Node is a node of the run's own, over all its incarnations. Its methods may be
// called from several goroutines; faults wait for each other.
type Node struct {
	spec  Spec
	place Place
	log   *os.File

	mu      sync.Mutex // held for as long as a fault takes
	process *process   // nil: it was killed and is not started yet
	stopped bool
	leaving bool       // the cluster was told that it goes: it may end by itself
	died    chan error // one unexpected end at most

	tally   sync.Mutex // of what follows; never held for long: figures are taken while a fault is done
	usage   usage
	running int // the process that usage does not count yet; 0: none
}

// StartNode starts a node in a folder of its own under dir and waits until it
// serves. Its spec's data folder and, where a port is 0, address are filled in.
func StartNode(ctx context.Context, dir string, spec Spec, at Place) (*Node, error) {
	log, err := os.Create(filepath.Join(dir, spec.Name+".log"))
	if err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	spec.DataDir = filepath.Join(dir, spec.Name)
	spec.Addresses, spec.Advertise, spec.GossipKeyFile = at.Addresses, at.Advertise, at.GossipKeyFile
	spec.Detour = at.Detour
	n := &Node{spec: spec, place: at, log: log, died: make(chan error, 1)}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.start(ctx); err != nil {
		_ = n.log.Close()
		return nil, err
	}
	return n, nil
}

// Name is the node's name.
func (n *Node) Name() string { return n.spec.Name }

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
	p, err := spawn(n.spec, n.log, n.place.start)
	if err != nil {
		return err
	}
	n.place.started(p.pid())
	addresses, err := p.ready(ctx, n.spec.DataDir)
	if err != nil {
		p.kill()
		return err
	}
	// The next incarnation is to be found where this one is.
	n.spec.Addresses.keep(addresses)
	n.process = p
	n.tally.Lock()
	n.running = p.pid()
	n.tally.Unlock()
	go n.watch(p)
	return nil
}

// watch reports an end that nobody asked for.
func (n *Node) watch(p *process) {
	<-p.done
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != p || n.stopped || n.leaving {
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

// gone says that there is no process to do anything to. It is called under mu.
func (n *Node) gone() bool { return n.stopped || n.process == nil || n.process.ended() }

// strike ends the process without warning and waits for its end. It is called under mu.
func (n *Node) strike() {
	n.tallyUp()
	killed := n.process
	n.process = nil
	killed.kill()
	_ = killed.stdin.Close()
}

// again starts the node after strike. It is called under mu.
func (n *Node) again(ctx context.Context) error {
	if err := n.start(ctx); err != nil {
		// There is no process to stop any more.
		n.stopped = true
		return err
	}
	return nil
}

// KillAndRestart ends the node without warning and, after a while, starts it on
// the same data and addresses. It returns once it serves again, and how long that took.
func (n *Node) KillAndRestart(ctx context.Context, away time.Duration) (time.Duration, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone() {
		return 0, nil
	}
	begin := time.Now()
	n.strike()
	wait(ctx, away)
	if err := n.again(ctx); err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}

// DrainAndRestart asks the node to end, waits until it has, and starts it on the
// same data and addresses. It returns once it serves again.
func (n *Node) DrainAndRestart(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone() {
		return nil
	}
	if err := n.drain(); err != nil {
		return err
	}
	return n.again(ctx)
}

// leave makes the node's end no accident from now on.
func (n *Node) leave() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leaving = true
}

// Drain asks the node to end for good, and waits until it has.
func (n *Node) Drain() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone() {
		return nil
	}
	err := n.drain()
	n.stopped = true
	_ = n.log.Close()
	return err
}

// drain is called under mu. A node that does not end is killed.
func (n *Node) drain() error {
	n.tallyUp()
	p := n.process
	n.process = nil
	defer func() { _ = p.stdin.Close() }()
	if err := terminate(p); err != nil && !p.ended() && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("drain node %s: %w", n.spec.Name, err)
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.kill()
		return fmt.Errorf("drain node %s: it did not end within %v\n%s", n.spec.Name, stopTimeout, n.LogTail())
	}
	// A node that was removed ends by itself, and says so.
	if p.err != nil && !n.leaving {
		return fmt.Errorf("drain node %s: %w\n%s", n.spec.Name, p.err, n.LogTail())
	}
	return nil
}

// Pause stops the node where it stands, and lets it go on after d or when ctx ends.
func (n *Node) Pause(ctx context.Context, d time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone() {
		return nil
	}
	if err := suspend(n.process.cmd.Process); err != nil {
		return fmt.Errorf("pause node %s: %w", n.spec.Name, err)
	}
	wait(ctx, d)
	if err := resume(n.process.cmd.Process); err != nil {
		return fmt.Errorf("resume node %s: %w", n.spec.Name, err)
	}
	return nil
}

// Slow has every sync of the node's disk take so much longer, for a while or
// until ctx ends.
func (n *Node) Slow(ctx context.Context, d, delay time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone() {
		return nil
	}
	if err := n.order(delay); err != nil {
		return err
	}
	wait(ctx, d)
	return n.order(0)
}

func (n *Node) order(delay time.Duration) error {
	if _, err := io.WriteString(n.process.stdin, SlowOrder+delay.String()+"\n"); err != nil {
		return fmt.Errorf("slow node %s: %w", n.spec.Name, err)
	}
	return nil
}

// SlowOrder begins the line on a node's standard input that says how much longer
// each sync is to take.
const SlowOrder = "slow "

// wait waits for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// tallyUp takes account of a process that is about to end.
func (n *Node) tallyUp() {
	n.tally.Lock()
	defer n.tally.Unlock()
	if n.running != 0 {
		n.usage.leave(n.running)
	}
	n.running = 0
}

// Usage returns what the node has taken so far, over all incarnations. It waits for no fault.
func (n *Node) Usage() report.Usage {
	n.tally.Lock()
	defer n.tally.Unlock()
	return n.usage.total(n.running, n.spec.DataDir)
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
	n.tallyUp()
	if n.process != nil {
		n.process.kill()
		_ = n.process.stdin.Close()
	}
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
