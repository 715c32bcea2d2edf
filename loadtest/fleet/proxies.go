package fleet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// proxies is a network on loopback with a proxy in front of each node's gossip and
// peer ports, under which it is known to the others: for systems without network
// namespaces. Who is cut off notices as little as behind a dead link: streams stand
// still and go on later, packets vanish, and connections come to nothing. That a
// connection begins, the kernel says nevertheless; nothing ever comes of it.
type proxies struct {
	gate *gate
	wg   sync.WaitGroup

	mu     sync.Mutex
	all    map[int]*proxy
	gossip map[netip.AddrPort]int // nodes by where they gossip from
	open   map[interface{ Close() error }]bool
	closed bool
}

func newProxies() *proxies {
	return &proxies{
		gate: newGate(), all: map[int]*proxy{}, gossip: map[netip.AddrPort]int{}, open: map[interface{ Close() error }]bool{},
	}
}

// Place implements Network. A node that is placed again stays where it was.
func (n *proxies) Place(node int) (Place, error) {
	n.mu.Lock()
	p := n.all[node]
	n.mu.Unlock()
	if p == nil {
		var err error
		if p, err = n.newProxy(node); err != nil {
			return Place{}, fmt.Errorf("proxy of node %d: %w", node+1, err)
		}
	}
	at := AnyPort()
	at.Gossip, at.Peer = p.gossipAt.String(), p.peerAt
	return Place{Addresses: at, Detour: &Detour{Node: node, Gossip: p.gossip.Addr().String(), Peer: p.peer.Addr().String()}}, nil
}

// waysOf are the ways that are cut with a node.
func waysOf(node int, others []int, cut Way) (ways []way) {
	for _, other := range others {
		if cut != Outbound {
			ways = append(ways, way{other, node})
		}
		if cut != Inbound {
			ways = append(ways, way{node, other})
		}
	}
	return ways
}

// Cut implements Network.
func (n *proxies) Cut(node int, others []int, cut Way) error {
	n.gate.set(true, waysOf(node, others, cut)...)
	return nil
}

// Heal implements Network.
func (n *proxies) Heal(node int, others []int) error {
	n.gate.set(false, waysOf(node, others, BothWays)...)
	return nil
}

// Close implements Network.
func (n *proxies) Close() error {
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		close(n.gate.quit)
	}
	for c := range n.open {
		_ = c.Close() // somebody else may have
	}
	n.mu.Unlock()
	n.wg.Wait()
	return nil
}

// hold has Close close c; false when that has been.
func (n *proxies) hold(c interface{ Close() error }) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		_ = c.Close() // nobody knows of it
		return false
	}
	n.open[c] = true
	return true
}

func (n *proxies) drop(c interface{ Close() error }) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, c)
	_ = c.Close() // somebody else may have
}

// portTries are for a port that TCP has free and UDP has not.
const portTries = 20

// bothPorts listens on a free port of loopback, for streams and packets alike.
func bothPorts() (net.Listener, *net.UDPConn, error) {
	for try := 1; ; try++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addrOf(l)))
		if err == nil {
			return l, u, nil
		}
		if err = errors.Join(err, l.Close()); try == portTries {
			return nil, nil, err
		}
	}
}

func addrOf(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() } //nolint:forcetypeassert // it listens on TCP
