package fleet

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/waystation/waystation/internal/freeport"
)

// proxy stands in front of a node.
type proxy struct {
	of   *proxies
	node int
	// gossipAt and peerAt are the node's own ports.
	gossipAt netip.AddrPort
	peerAt   string

	gossip, peer net.Listener
	packets      *net.UDPConn

	mu sync.Mutex
	// from has, for each other node, the socket that its packets come out of: what
	// comes back to it goes to that node.
	from map[int]*net.UDPConn
}

const (
	greetTimeout = 5 * time.Second
	reachTimeout = 5 * time.Second
	lookEvery    = 50 * time.Millisecond
	chunk        = 64 << 10
)

// newProxy listens in front of a node, for which it chooses ports.
func (n *proxies) newProxy(node int) (*proxy, error) {
	p := &proxy{of: n, node: node, from: map[int]*net.UDPConn{}}
	gossipAt, err := freeport.Addr()
	if err != nil {
		return nil, err
	}
	if p.gossipAt, err = netip.ParseAddrPort(gossipAt); err != nil {
		return nil, err
	}
	if p.peerAt, err = freeport.Addr(); err != nil {
		return nil, err
	}
	if p.gossip, p.packets, err = bothPorts(); err != nil {
		return nil, err
	}
	if p.peer, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, errors.Join(err, p.gossip.Close(), p.packets.Close())
	}
	n.mu.Lock()
	n.all[node], n.gossip[p.gossipAt] = p, node
	n.mu.Unlock()
	for _, x := range []struct {
		l  net.Listener
		to string
	}{{p.gossip, p.gossipAt.String()}, {p.peer, p.peerAt}} {
		if n.hold(x.l) {
			n.wg.Go(func() { p.streams(x.l, x.to) })
		}
	}
	if n.hold(p.packets) {
		n.wg.Go(p.deliver)
	}
	return p, nil
}

// streams takes connections to one of the node's ports.
func (p *proxy) streams(l net.Listener, to string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if p.of.hold(c) {
			p.of.wg.Go(func() {
				p.stream(c, to)
				p.of.drop(c)
			})
		}
	}
}

// stream serves one connection to the node.
func (p *proxy) stream(c net.Conn, to string) {
	_ = c.SetReadDeadline(time.Now().Add(greetTimeout)) // an error shows in the read
	in := bufio.NewReaderSize(c, chunk)
	from, err := greeted(in)
	if err != nil || !p.reachable(c, in, from) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), reachTimeout)
	defer cancel()
	d, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
	if err != nil || !p.of.hold(d) {
		return
	}
	defer p.of.drop(d)
	var both sync.WaitGroup
	both.Go(func() { p.pump(way{from, p.node}, d, in, c) })
	both.Go(func() { p.pump(way{p.node, from}, c, d, d) })
	both.Wait()
}

// reachable waits until both directions are open: without one of them no connection
// comes about. False when who dialled gave up meanwhile.
func (p *proxy) reachable(c net.Conn, in *bufio.Reader, from int) bool {
	for {
		open, changed := p.of.gate.open(way{from, p.node}, way{p.node, from})
		if open {
			return c.SetReadDeadline(time.Time{}) == nil
		}
		_ = c.SetReadDeadline(time.Now().Add(lookEvery)) // an error shows in the read
		if n := in.Buffered(); n < in.Size() {
			if _, err := in.Peek(n + 1); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				return false
			}
		}
		timer := time.NewTimer(lookEvery)
		select {
		case <-changed:
		case <-timer.C:
		case <-p.of.gate.quit:
			timer.Stop()
			return false
		}
		timer.Stop()
	}
}

// pump carries what comes from in over to out, while the way is open. back is the
// connection that in reads from.
func (p *proxy) pump(w way, out net.Conn, in io.Reader, back net.Conn) {
	b := make([]byte, chunk)
	for {
		n, err := in.Read(b)
		if !p.of.gate.pass(w) {
			return
		}
		if n > 0 {
			if _, err := out.Write(b[:n]); err != nil {
				_ = back.Close() // nobody is there any more
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if half, ok := out.(*net.TCPConn); ok {
				_ = half.CloseWrite() // an error says that it is closed
			}
			return
		case err != nil:
			_ = out.Close() // it broke off
			return
		}
	}
}

// deliver hands packets of other nodes on.
func (p *proxy) deliver() {
	b := make([]byte, chunk)
	for {
		n, at, err := p.packets.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // such as that nobody listened to the last one
		}
		from, known := p.of.gossiper(at)
		if !known {
			continue
		}
		if open, _ := p.of.gate.open(way{from, p.node}); !open {
			continue
		}
		if u := p.socket(from, at); u != nil {
			_, _ = u.WriteToUDPAddrPort(b[:n], p.gossipAt) // packets may be lost
		}
	}
}

func (n *proxies) gossiper(at netip.AddrPort) (node int, known bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	node, known = n.gossip[netip.AddrPortFrom(at.Addr().Unmap(), at.Port())]
	return node, known
}

// socket is where a node's packets come out of; nil at the end.
func (p *proxy) socket(from int, back netip.AddrPort) *net.UDPConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.from[from]; u != nil {
		return u
	}
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil || !p.of.hold(u) {
		return nil
	}
	p.from[from] = u
	p.of.wg.Go(func() { p.answers(u, from, back) })
	return u
}

// answers hands what the node sends back on to another one.
func (p *proxy) answers(u *net.UDPConn, to int, at netip.AddrPort) {
	b := make([]byte, chunk)
	for {
		n, _, err := u.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if open, _ := p.of.gate.open(way{p.node, to}); err == nil && open {
			_, _ = p.packets.WriteToUDPAddrPort(b[:n], at) // packets may be lost
		}
	}
}
