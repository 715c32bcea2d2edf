package member

import (
	"net"
	"sync"
)

// phases give the peers' connections to one gRPC server after the other: a server
// takes no more services once it serves, and closes its listener when it ends.
type phases struct {
	from  net.Listener
	conns chan net.Conn
	over  chan struct{} // closed when from is
}

func newPhases(from net.Listener) *phases {
	return &phases{from: from, conns: make(chan net.Conn), over: make(chan struct{})}
}

// pump hands connections on until the listener is closed. done ends the wait of
// one that nobody takes.
func (p *phases) pump(done <-chan struct{}) {
	defer close(p.over)
	for {
		c, err := p.from.Accept()
		if err != nil {
			return
		}
		select {
		case p.conns <- c:
		case <-done:
			_ = c.Close() // nobody has heard of it
		}
	}
}

// next is the listener of the next server.
func (p *phases) next() net.Listener { return &phase{of: p, quit: make(chan struct{})} }

type phase struct {
	of   *phases
	once sync.Once
	quit chan struct{}
}

// Accept waits for a connection, until this phase or all of them end.
func (p *phase) Accept() (net.Conn, error) {
	select {
	case <-p.quit:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-p.of.conns:
		return c, nil
	case <-p.quit:
	case <-p.of.over:
	}
	return nil, net.ErrClosed
}

// Close ends this phase; the port stays open for the next one.
func (p *phase) Close() error {
	p.once.Do(func() { close(p.quit) })
	return nil
}

// Addr is the peer port's.
func (p *phase) Addr() net.Addr { return p.of.from.Addr() }
