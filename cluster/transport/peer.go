package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/waystation/waystation/cluster/identity"
)

// longLived is how long a connection has to hold for the next attempt to come
// without a pause.
const longLived = time.Second

// peer is one other node: what waits for it, and the goroutine that keeps a
// connection to it and writes.
type peer struct {
	t      *Transport
	node   identity.NodeID
	out    *outbox
	snaps  *snapQueue
	clock  peerClock
	wake   chan struct{} // ends a pause between two attempts
	former bool          // it was forgotten, and messages to it made it known again
	ctx    context.Context
	cancel context.CancelFunc

	drops atomic.Uint64
	heard atomic.Int64 // monotonic, when something came from it; 0 is never
	// headroom is what its last pulse said, pulsed when that came; 0 is never.
	headroom, pulsed atomic.Int64

	mu   sync.Mutex
	link link
	// fell says that the last connection broke and none was tried since that told
	// whether there is a process still.
	fell bool
	err  error // of the last attempt, or what broke the last connection
}

// link is the state of the connection to a peer.
type link struct {
	up      bool
	address string
	since   time.Time
}

func newPeer(t *Transport, n identity.NodeID) *peer {
	p := &peer{t: t, node: n, out: newOutbox(&t.cfg), wake: make(chan struct{}, 1)}
	p.snaps = newSnapQueue(t.cfg.QueuedSnapshots)
	p.ctx, p.cancel = context.WithCancel(t.ctx)
	return p
}

// kick ends a pause between two attempts to connect.
func (p *peer) kick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// felt notes that a pulse came from the peer, on whichever connection.
func (p *peer) felt(beat pulse, now time.Duration) {
	p.headroom.Store(beat.headroom)
	p.pulsed.Store(int64(now))
	p.heard.Store(int64(now))
}

func (p *peer) drop(it item, reason string) {
	p.drops.Add(1)
	p.t.drop(it, reason)
}

func (p *peer) dropAll(items []item, reason string) {
	for _, it := range items {
		p.drop(it, reason)
	}
}

// loop keeps a connection until the peer is forgotten or the transport stops.
func (p *peer) loop() {
	var snapshots sync.WaitGroup
	snapshots.Go(p.snapshotLoop)
	defer snapshots.Wait()
	defer p.cancel()
	pause := p.t.cfg.BackoffMin
	for p.ctx.Err() == nil {
		began := p.t.now()
		err := p.session()
		if p.ctx.Err() != nil {
			return
		}
		if p.t.now()-began > longLived {
			pause = p.t.cfg.BackoffMin
		}
		p.failed(err)
		if !p.pause(pause) {
			return
		}
		pause = min(2*pause, p.t.cfg.BackoffMax)
	}
}

// pause waits about d, less if there is a reason to hurry.
func (p *peer) pause(d time.Duration) bool {
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.wake:
	case <-p.ctx.Done():
		return false
	}
	return true
}

// session connects and writes until something breaks.
func (p *peer) session() error {
	conn, address, err := p.t.dial(p.ctx, p.node, LaneRaft)
	if err != nil {
		return err
	}
	defer p.t.hang(conn)
	p.t.metrics.connects.Inc()
	p.up(address)
	err = newSender(p, conn).run()
	p.t.metrics.disconnects.Inc()
	return err
}

func (p *peer) up(address string) {
	p.out.setDown(false)
	p.mu.Lock()
	p.fell = false
	p.link, p.err = link{up: true, address: address, since: time.Now()}, nil
	p.mu.Unlock()
	p.t.cfg.Logger.Info("connected to peer", "node", p.node, "address", address)
}

// failed records why there is no connection, and says so when the reason is a
// new one.
func (p *peer) failed(err error) {
	p.dropAll(p.out.setDown(true), dropDown)
	p.mu.Lock()
	was, before := p.link, p.err
	p.link, p.err = link{address: was.address, since: was.since}, err
	if was.up {
		p.link.since = time.Now()
	}
	gone := p.fell && errors.Is(err, syscall.ECONNREFUSED)
	p.fell = (p.fell || was.up) && !gone
	p.mu.Unlock()
	if gone && p.t.cfg.Gone != nil {
		p.t.cfg.Gone(p.node)
	}
	if was.up || before == nil || before.Error() != err.Error() {
		level := slog.LevelWarn
		if p.former || passing(err, was.up || before == nil) {
			level = slog.LevelDebug
		}
		p.t.cfg.Logger.Log(p.ctx, level, "no connection to peer", "node", p.node, "address", was.address, "err", err)
	}
}

// passing says that a failure is no news to people: of a node that is about to join
// or to be heard of, and what follows the first one of a node that is away, unless
// it says what is wrong.
func passing(err error, first bool) bool {
	var r *Refusal
	switch {
	case errors.Is(err, ErrNotMember), errors.Is(err, errUnknownAddress):
		return true
	case errors.As(err, &r):
		return false
	}
	return !first
}

var errUnknownAddress = errors.New("address unknown")

// end gives up what waits, once the loop has ended or never ran.
func (p *peer) end(err error) {
	p.cancel()
	p.dropAll(p.out.close(), dropDown)
	p.snaps.close(err)
}

// dial connects to a node and introduces this one. The connection is tracked:
// hang ends it.
func (t *Transport) dial(ctx context.Context, n identity.NodeID, lane Lane) (net.Conn, string, error) {
	if t.cluster.Load().IsZero() {
		return nil, "", fmt.Errorf("dial %s: %w", n, ErrNotMember)
	}
	address, ok := t.cfg.Address(n)
	if !ok {
		return nil, "", fmt.Errorf("dial %s: %w", n, errUnknownAddress)
	}
	ctx, cancel := context.WithTimeout(ctx, t.cfg.DialTimeout)
	defer cancel()
	dialer := t.cfg.Dial
	if dialer == nil {
		dialer = (&net.Dialer{}).DialContext
	}
	raw, err := dialer(ctx, "tcp", address)
	if err != nil {
		return nil, address, fmt.Errorf("dial %s: %w", n, err)
	}
	if !t.track(raw) {
		_ = raw.Close()
		return nil, address, ErrStopped
	}
	conn, err := t.present(ctx, raw, address, n, lane)
	if err != nil {
		t.hang(raw)
		return nil, address, fmt.Errorf("connect to %s at %s: %w", n, address, err)
	}
	return conn, address, nil
}

// present says hello and reads the answer.
func (t *Transport) present(ctx context.Context, raw net.Conn, address string, n identity.NodeID, lane Lane) (net.Conn, error) {
	// The other side may wait for an earlier connection to end.
	if err := raw.SetDeadline(time.Now().Add(t.cfg.HelloTimeout)); err != nil {
		return nil, err
	}
	conn, err := t.secure(ctx, raw, address)
	if err != nil {
		return nil, err
	}
	own := t.hello(lane, n)
	if err := writeBlock(conn, magic[:], own.append(nil)); err != nil {
		return nil, fmt.Errorf("write hello: %w", err)
	}
	b, err := readBlock(conn)
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	h, r, err := parseAnswer(b)
	if err != nil {
		return nil, err
	}
	if r != nil {
		r.Theirs = true
		t.metrics.refused.Inc()
		return nil, r
	}
	h.Lane, h.Remote, h.TLS = lane, conn.RemoteAddr(), tlsState(conn)
	return conn, t.agree(h, n)
}

// agree judges who answered.
func (t *Transport) agree(h Hello, n identity.NodeID) error {
	if err := t.judgeDialled(h, n); err != nil {
		t.metrics.refused.Inc()
		return refusal(err)
	}
	if _, ok := t.lives.admit(h); !ok {
		return refusal(fmt.Errorf("%w: node %s has a newer life", ErrCopied, h.Node))
	}
	return nil
}

// hang closes a connection that dial made.
func (t *Transport) hang(c net.Conn) {
	if o, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = o.NetConn() // below TLS: no farewell, which could block
	}
	t.untrack(c)
	_ = c.Close()
}

// reason unwraps what a broken connection says at Stop.
func (t *Transport) reason(err error) error {
	if t.ctx.Err() != nil && err != nil && !errors.Is(err, ErrStopped) {
		return fmt.Errorf("%w: %w", ErrStopped, err)
	}
	return err
}
