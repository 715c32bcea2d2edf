package transport

import (
	"crypto/tls"
	"net"
	"sync"
)

// grpcListener gives accepted connections out a second time.
type grpcListener struct {
	addr  net.Addr
	conns chan net.Conn
	mu    sync.Mutex
	over  bool
	quit  chan struct{}
}

func newGRPCListener(addr net.Addr, backlog int) *grpcListener {
	return &grpcListener{addr: addr, conns: make(chan net.Conn, backlog), quit: make(chan struct{})}
}

// Accept waits for a connection, until Close or the transport's Stop.
func (l *grpcListener) Accept() (net.Conn, error) {
	select {
	case <-l.quit:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.quit:
		return nil, net.ErrClosed
	}
}

// Close ends Accept, and closes what was not accepted. The port stays open: it
// is the transport's.
func (l *grpcListener) Close() error {
	l.shut()
	return nil
}

// Addr is the transport's own address.
func (l *grpcListener) Addr() net.Addr { return l.addr }

// offer says false if the connection cannot be taken.
func (l *grpcListener) offer(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	select {
	case l.conns <- c:
		return true
	default:
		return false
	}
}

func (l *grpcListener) shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	close(l.quit)
	for {
		select {
		case c := <-l.conns:
			_ = c.Close()
		default:
			return
		}
	}
}

// replayConn gives bytes that were read already once more.
type replayConn struct {
	net.Conn
	first []byte
}

// Read returns first what was read before. It is for one reader, as any
// connection's.
func (c *replayConn) Read(b []byte) (int, error) {
	if len(c.first) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.first)
	c.first = c.first[n:]
	return n, nil
}

// ConnectionState says what TLS knows of the peer, and the zero state without
// it.
func (c *replayConn) ConnectionState() tls.ConnectionState {
	if s := tlsState(c.Conn); s != nil {
		return *s
	}
	return tls.ConnectionState{}
}

func tlsState(c net.Conn) *tls.ConnectionState {
	s, ok := c.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return nil
	}
	state := s.ConnectionState()
	return &state
}
