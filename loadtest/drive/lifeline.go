package drive

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// lifeline has a client's connections, so that it can die as a process does: what
// was not sent yet never is, the other side is told nothing but that the
// connection is gone, and there is no way back.
type lifeline struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	dead  bool
}

// errDead is what a dead worker's client gets.
var errDead = errors.New("this worker is dead")

func newLifeline() *lifeline { return &lifeline{conns: make(map[net.Conn]struct{})} }

// dial is for client.WithDialer.
func (l *lifeline) dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		_ = c.Close()
		return nil, errDead
	}
	l.conns[c] = struct{}{}
	return &lifelineConn{Conn: c, line: l}, nil
}

// cut ends all connections without a word, and allows no new ones. When it
// returns nothing more is sent.
func (l *lifeline) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	for c := range l.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, and not the rest of what was to be sent
		}
		_ = c.Close()
	}
	clear(l.conns)
}

type lifelineConn struct {
	net.Conn

	line *lifeline
}

// Close forgets the connection.
func (c *lifelineConn) Close() error {
	c.line.mu.Lock()
	delete(c.line.conns, c.Conn)
	c.line.mu.Unlock()
	return c.Conn.Close()
}
