package transport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/waystation/waystation/cluster/identity"
)

// acceptPause follows a failed Accept: out of file descriptors, mostly.
const acceptPause = 50 * time.Millisecond

// Protocols of TLS's negotiation.
const (
	alpnOwn  = "waystation"
	alpnGRPC = "h2"
)

// errForeign says that a connection speaks something else.
var errForeign = errors.New("foreign protocol")

type incomingKey struct {
	node identity.NodeID
	lane Lane
}

// incoming is a connection that a peer dialled and that was accepted.
type incoming struct {
	key  incomingKey
	conn net.Conn
	done chan struct{} // closed once nothing is received from it any more
}

func (t *Transport) acceptLoop() {
	for {
		conn, err := t.cfg.Listener.Accept()
		if err != nil {
			if t.ctx.Err() != nil {
				return
			}
			t.seldom.about("accept").Warn("cannot accept a connection", "err", err)
			if !t.rest(acceptPause) {
				return
			}
			continue
		}
		if !t.enter(conn) {
			_ = conn.Close()
			return
		}
		t.running.Go(func() { t.greet(conn) })
	}
}

// rest waits. It says false after Stop.
func (t *Transport) rest(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.ctx.Done():
		return false
	}
}

// enter counts a connection among those that have not said anything yet. The
// oldest of too many is closed: strangers must not keep peers out.
func (t *Transport) enter(c net.Conn) bool {
	if !t.track(c) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending = append(t.pending, c)
	if len(t.pending) > t.cfg.PendingConns {
		_ = t.pending[0].Close()
		t.pending = slices.Delete(t.pending, 0, 1)
	}
	return true
}

// leave is called once a connection has said what it is.
func (t *Transport) leave(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.pending, c); i >= 0 {
		t.pending = slices.Delete(t.pending, i, i+1)
	}
}

// greet finds out what an accepted connection is, and serves it.
func (t *Transport) greet(raw net.Conn) {
	defer t.untrack(raw)
	conn, first, err := t.sniff(raw)
	switch {
	case err == nil && first == nil:
		t.introduce(raw, conn)
	case err == nil:
		t.leave(raw)
		_ = conn.SetDeadline(time.Time{})
		if t.grpc.offer(&replayConn{Conn: conn, first: first}) {
			return
		}
	default:
		t.leave(raw)
		t.stranger(raw, err)
	}
	_ = raw.Close()
}

// stranger counts a connection that is none of ours.
func (t *Transport) stranger(c net.Conn, err error) {
	if t.ctx.Err() != nil {
		return
	}
	t.metrics.foreign.Inc()
	t.seldom.about("stranger").Warn("connection to the peer port closed", "from", c.RemoteAddr(), "err", err)
}

// sniff reads how a connection begins: with our magic, or with HTTP/2's
// preface, which it returns.
func (t *Transport) sniff(raw net.Conn) (conn net.Conn, first []byte, err error) {
	conn = raw
	if err := raw.SetDeadline(time.Now().Add(t.cfg.HelloTimeout)); err != nil {
		return nil, nil, err
	}
	if t.cfg.TLS != nil {
		c := t.cfg.TLS.Clone()
		c.NextProtos = []string{alpnOwn, alpnGRPC}
		s := tls.Server(raw, c)
		if err := s.HandshakeContext(t.ctx); err != nil {
			return nil, nil, fmt.Errorf("tls handshake: %w", err)
		}
		conn = s
	}
	b := make([]byte, len(magic), len(preface))
	if n, err := io.ReadFull(conn, b); err != nil {
		return nil, nil, fmt.Errorf("%w: %d bytes came: %w", errForeign, n, err)
	}
	if bytes.Equal(b, magic[:]) {
		return conn, nil, nil
	}
	if string(b) == preface[:len(b)] {
		if _, err := io.ReadFull(conn, b[len(b):cap(b)]); err == nil && string(b[:cap(b)]) == preface {
			return conn, b[:cap(b)], nil
		}
	}
	return nil, nil, fmt.Errorf("%w: it begins with %q", errForeign, b)
}

// introduce reads the hello, answers it and serves the connection.
func (t *Transport) introduce(raw, conn net.Conn) {
	h, err := t.readHello(conn)
	t.leave(raw)
	if err != nil {
		t.stranger(raw, err)
		return
	}
	in, err := t.admit(h, raw)
	_ = conn.SetDeadline(time.Now().Add(t.cfg.HelloTimeout)) // an error shows in the write
	if err != nil {
		t.refuse(conn, h, err)
		return
	}
	defer t.remove(in)
	if err := writeBlock(conn, nil, appendAnswer(nil, nil, t.hello(h.Lane, identity.NodeID{}))); err != nil {
		return
	}
	if h.Lane == LaneSnapshot {
		t.serveSnapshot(conn, h)
		return
	}
	if p := t.peer(h.Node); p != nil {
		p.kick() // the network is there again
	}
	t.serveRaft(conn, h)
}

func (t *Transport) readHello(conn net.Conn) (Hello, error) {
	b, err := readBlock(conn)
	if err != nil {
		return Hello{}, fmt.Errorf("read hello: %w", err)
	}
	h, err := parseHello(b)
	h.Remote, h.TLS = conn.RemoteAddr(), tlsState(conn)
	return h, err
}

func (t *Transport) refuse(conn net.Conn, h Hello, err error) {
	r := refusal(err)
	t.metrics.refused.Inc()
	level := slog.LevelWarn
	if errors.Is(err, ErrNotMember) {
		level = slog.LevelDebug // this node is about to join
	}
	t.seldom.about("refused "+h.Node.String()).Log(t.ctx, level, "peer refused", "node", h.Node, "name", h.Name, "from", h.Remote, "err", r)
	_ = writeBlock(conn, nil, appendAnswer(nil, r, t.hello(h.Lane, identity.NodeID{}))) // it may be gone
}

// admit judges a hello and makes its connection the one of its node and lane.
// An earlier one is closed, and has delivered all that it will before this one
// begins.
func (t *Transport) admit(h Hello, conn net.Conn) (*incoming, error) {
	if err := t.judgeDialler(h); err != nil {
		return nil, err
	}
	fresh, ok := t.lives.admit(h)
	if !ok {
		return nil, fmt.Errorf("%w: node %s has a newer life", ErrCopied, h.Node)
	}
	if fresh {
		t.hangUp(h.Node)
	}
	in := &incoming{key: incomingKey{h.Node, h.Lane}, conn: conn, done: make(chan struct{})}
	deadline := time.NewTimer(t.cfg.HelloTimeout / 2) // the dialler waits a whole one
	defer deadline.Stop()
	for {
		old := t.insert(in)
		if old == nil {
			return in, nil
		}
		_ = old.conn.Close()
		select {
		case <-old.done:
		case <-deadline.C:
			return nil, fmt.Errorf("%w: %s lane of node %s", ErrBusy, h.Lane, h.Node)
		case <-t.ctx.Done():
			return nil, ErrStopped
		}
	}
}

// insert returns the connection that stands in the way, if any.
func (t *Transport) insert(in *incoming) *incoming {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.incoming[in.key]; old != nil {
		return old
	}
	t.incoming[in.key] = in
	return nil
}

func (t *Transport) remove(in *incoming) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.incoming[in.key] == in {
		delete(t.incoming, in.key)
	}
	close(in.done)
}

// hangUp closes what an earlier life of a node has open.
func (t *Transport) hangUp(n identity.NodeID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, in := range t.incoming {
		if key.node == n {
			_ = in.conn.Close()
		}
	}
}
