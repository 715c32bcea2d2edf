package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Gossip is this node among the members. Its methods may be called from any
// goroutine.
type Gossip struct {
	config   Config
	log      *slog.Logger
	metrics  *metrics
	instance [8]byte
	bridge   *bridge
	t        *transport
	list     *memberlist.Memberlist
	d        *delegate
	members  *members
	lost     *lost

	ring     *memberlist.Keyring // nil without a key file
	ringLock sync.Mutex          // one reload at a time

	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	seeds   atomic.Pointer[func(context.Context) []string]
	insists atomic.Int32  // how often the others are still to be told of this life
	joinNow chan struct{} // the seeds changed, or insists
	renew   chan struct{} // the record changed
	own     sync.Mutex    // one change of this node's own entry at a time
	random  source

	life    sync.Mutex // guards the two flags; never held while waiting
	left    bool
	stopped bool
	leaving sync.WaitGroup
	ended   chan struct{} // closed when Stop is through
	err     error         // of Stop, once ended is closed
}

// noWait is for memberlist's waits that nobody here needs; zero means for ever.
const noWait = time.Nanosecond

// Start listens, and becomes a member of its own. Nobody else is known until a
// join, of this node or of another with this one.
func Start(c Config) (*Gossip, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	g := &Gossip{
		config: c, log: c.Logger, lost: &lost{},
		joinNow: make(chan struct{}, 1), renew: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	if _, err := io.ReadFull(c.Random, g.instance[:]); err != nil {
		return nil, fmt.Errorf("start gossip: draw instance: %w", err)
	}
	if err := g.random.seed(c.Random); err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	if c.KeyFile != "" {
		keys, err := LoadKeys(c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("start gossip: %w", err)
		}
		if g.ring, err = memberlist.NewKeyring(keys, keys[0]); err != nil {
			return nil, fmt.Errorf("start gossip: %w", err)
		}
	}
	var err error
	if g.metrics, err = newMetrics(c.Registerer); err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	if err := g.open(); err != nil {
		g.metrics.unregister(c.Registerer)
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	g.tasks.Go(g.renewing)
	g.tasks.Go(g.judging)
	g.tasks.Go(g.keeping)
	if g.ring != nil {
		g.tasks.Go(func() { g.rereading(c.keysAgain()) })
	}
	return g, nil
}

// open starts memberlist on a transport of its own.
func (g *Gossip) open() error {
	g.bridge = newBridge(g.log, g.metrics.refuse)
	logger := g.bridge.logger()
	g.members = newMembers(g.config.Meta.Node, g.metrics)
	g.d = &delegate{members: g.members, metrics: g.metrics, lost: g.lost, conflicts: make(chan pair, conflictQueue)}
	record, err := g.config.Meta.Encode()
	if err != nil {
		return err
	}
	g.d.record.Store(&record)
	if g.t, err = newTransport(g.config, logger, g.metrics.refuse); err != nil {
		return err
	}
	config := g.config.memberlist(g.t, g.d, g.ring)
	config.Logger = logger
	g.t.start(g.answerHello)
	if g.list, err = memberlist.Create(config); err != nil {
		return errors.Join(err, g.t.Shutdown())
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return nil
}

// Address is what others reach this node's gossip under, with its real port.
func (g *Gossip) Address() netip.AddrPort { return g.t.advertise }

// Port is the port that is listened on.
func (g *Gossip) Port() int { return g.t.port }

// Members returns who is there, this node too, by node id. The slice is shared:
// it must not be changed, and is never changed by anybody else.
func (g *Gossip) Members() []Member { return g.members.now() }

// Subscribe tells of changes, and never holds gossip up.
func (g *Gossip) Subscribe() *Subscription { return g.members.subscribe() }

// UpdateMeta tells the others something new of this node. It does not wait for
// them. The node id cannot change; ErrMeta if the record is too large.
func (g *Gossip) UpdateMeta(m Meta) error {
	if m.Node != g.config.Meta.Node {
		return fmt.Errorf("update member record: %w: the node id cannot change", ErrMeta)
	}
	record, err := m.Encode()
	if err != nil {
		return fmt.Errorf("update member record: %w", err)
	}
	g.d.record.Store(&record)
	select {
	case g.renew <- struct{}{}:
	default:
	}
	return nil
}

// renewing hands new records to memberlist, which takes its locks for that.
func (g *Gossip) renewing() {
	for {
		select {
		case <-g.renew:
			_ = g.update(noWait) // its one error is that it did not wait
		case <-g.ctx.Done():
			return
		}
	}
}

// update tells the others this node's record, and waits until they were told or
// until timeout. memberlist reads the entry of its own node without a lock there,
// while another update writes it: hence one at a time.
func (g *Gossip) update(timeout time.Duration) error {
	g.own.Lock()
	defer g.own.Unlock()
	return g.list.UpdateNode(timeout)
}

// Leave tells the others that this node goes, so that none of them takes it for
// failed. It waits until they were told, until timeout, or until ctx ends. The
// node stays a listener until Stop. A second call does nothing.
func (g *Gossip) Leave(ctx context.Context, timeout time.Duration) error {
	done := make(chan error, 1)
	g.life.Lock()
	if g.stopped || g.left {
		g.life.Unlock()
		return nil
	}
	g.left = true
	g.leaving.Go(func() { done <- g.leave(timeout) })
	g.life.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("leave gossip: %w", ctx.Err())
	}
}

func (g *Gossip) leave(timeout time.Duration) error {
	m, err := DecodeMeta(*g.d.record.Load())
	if err != nil {
		return fmt.Errorf("leave gossip: %w", err)
	}
	m.State = Leaving
	if record, err := m.Encode(); err == nil {
		g.d.record.Store(&record)
	}
	begun := time.Now()
	// memberlist's own word of it drops the record from what is still to be sent,
	// so the record, by which others tell a leave from a failure, goes first.
	if err := g.update(max(timeout/2, time.Millisecond)); err != nil {
		g.log.Debug("the others may not hear why this node is gone", "error", err)
	}
	if err := g.list.Leave(max(timeout-time.Since(begun), time.Millisecond)); err != nil {
		return fmt.Errorf("leave gossip: %w", err)
	}
	return nil
}

// Stop ends gossip without a word to the others: call Leave before it for that.
// It waits for what the package started; timers within memberlist end within one
// probe interval. A second call waits for the first.
func (g *Gossip) Stop() error {
	g.life.Lock()
	again := g.stopped
	g.stopped = true
	g.life.Unlock()
	if again {
		<-g.ended
		return g.err
	}
	g.cancel()
	g.leaving.Wait() // memberlist panics when it is to leave after its end
	if err := g.list.Shutdown(); err != nil {
		g.err = fmt.Errorf("stop gossip: %w", err)
	}
	g.bridge.end()
	g.tasks.Wait()
	g.metrics.unregister(g.config.Registerer)
	close(g.ended)
	return g.err
}
