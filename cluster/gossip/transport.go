package gossip

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// maxStreams bounds the inbound streams that are open at one time; memberlist
	// starts a goroutine for each, without a bound.
	maxStreams = 256
	// firstByte is how long an inbound stream may say nothing.
	firstByte = 5 * time.Second
	// bindTries is for a free port that UDP has and TCP has not, or the other way.
	bindTries = 10
)

// transport is memberlist's network transport with what it lacks: a bound on
// streams, an end that takes every connection with it, and the hello in front.
type transport struct {
	nt        *memberlist.NetTransport
	port      int
	advertise netip.AddrPort
	streams   chan net.Conn
	answer    func(net.Conn)
	cut       func(addr string) bool
	refused   func(reason string)
	dialer    func(ctx context.Context, network, address string) (net.Conn, error)

	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup // the pump and the streams that it looks at

	mu      sync.Mutex
	conns   map[*conn]struct{}
	inbound int
	stopped bool
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// newTransport listens. Nothing is taken from the streams before start.
func newTransport(c Config, logger *log.Logger, refused func(string)) (*transport, error) {
	nt, err := listen(c.Bind, logger)
	if err != nil {
		return nil, fmt.Errorf("listen for gossip on %s: %w", c.Bind, err)
	}
	t := &transport{
		nt: nt, port: nt.GetAutoBindPort(), streams: make(chan net.Conn),
		cut: c.cut, refused: refused, conns: map[*conn]struct{}{},
	}
	if t.dialer = c.Dial; t.dialer == nil {
		t.dialer = (&net.Dialer{}).DialContext
	}
	if t.cut == nil {
		t.cut = func(string) bool { return false }
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	if t.advertise, err = advertised(c, t.port); err != nil {
		t.cancel()
		return nil, errors.Join(err, nt.Shutdown())
	}
	return t, nil
}

func listen(at netip.AddrPort, logger *log.Logger) (*memberlist.NetTransport, error) {
	config := &memberlist.NetTransportConfig{BindAddrs: []string{at.Addr().String()}, BindPort: int(at.Port()), Logger: logger}
	for try := 1; ; try++ {
		nt, err := memberlist.NewNetTransport(config)
		if err == nil || at.Port() != 0 || try == bindTries || !strings.Contains(err.Error(), "in use") {
			return nt, err
		}
	}
}

// advertised is what others reach this node under.
func advertised(c Config, port int) (netip.AddrPort, error) {
	addr, p := c.Advertise.Addr(), c.Advertise.Port()
	if p == 0 {
		p = uint16(port)
	}
	if !addr.IsValid() || addr.IsUnspecified() {
		addr = c.Bind.Addr()
	}
	if addr.IsUnspecified() {
		var err error
		if addr, err = PrivateAddr(); err != nil {
			return netip.AddrPort{}, err
		}
	}
	return netip.AddrPortFrom(addr.Unmap(), p), nil
}

// PrivateAddr is the machine's first private address, IPv4 before IPv6: what a wildcard
// advertises if nothing else is said.
func PrivateAddr() (netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find an address to advertise: %w", err)
	}
	var six netip.Addr
	for _, a := range all {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil || !prefix.Addr().IsPrivate() {
			continue
		}
		if prefix.Addr().Is4() {
			return prefix.Addr(), nil
		}
		if !six.IsValid() {
			six = prefix.Addr()
		}
	}
	if six.IsValid() {
		return six, nil
	}
	return netip.Addr{}, errors.New("find an address to advertise: no interface has a private one; set --advertise")
}

// start begins to look at inbound streams; answer is called for a hello and
// closes its connection.
func (t *transport) start(answer func(net.Conn)) {
	t.answer = answer
	t.tasks.Go(func() {
		for {
			select {
			case c := <-t.nt.StreamCh():
				t.accept(c)
			case <-t.ctx.Done():
				return
			}
		}
	})
}

func (t *transport) accept(raw net.Conn) {
	c := t.track(raw, true)
	if c == nil {
		t.refused("streams")
		_ = raw.Close()
		return
	}
	t.tasks.Go(func() { t.look(c) })
}

// look reads the first byte: a hello is answered here, all else is memberlist's.
func (t *transport) look(c *conn) {
	_ = c.SetReadDeadline(time.Now().Add(firstByte))
	first, err := c.reader.Peek(1)
	if err != nil {
		_ = c.Close()
		return
	}
	if first[0] == helloMagic[0] {
		t.answer(c)
		_ = c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	select {
	case t.streams <- c:
	case <-t.ctx.Done():
		_ = c.Close()
	}
}

// track returns nil if the transport has ended, or has too many streams.
func (t *transport) track(raw net.Conn, inbound bool) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped || inbound && t.inbound >= maxStreams {
		return nil
	}
	c := &conn{Conn: raw, t: t, inbound: inbound, reader: bufio.NewReader(raw)}
	t.conns[c] = struct{}{}
	if inbound {
		t.inbound++
	}
	return c
}

func (t *transport) forget(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.conns[c]; !ok {
		return
	}
	delete(t.conns, c)
	if c.inbound {
		t.inbound--
	}
}

// Shutdown ends everything, once: listeners, streams, dials.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	again := t.stopped
	t.stopped = true
	t.mu.Unlock()
	if again {
		return nil
	}
	drained := make(chan struct{})
	var drain sync.WaitGroup
	// Its listeners wait until somebody takes what they read, and where memberlist
	// did not come up there is nobody.
	drain.Go(func() { t.drain(drained) })
	err := t.nt.Shutdown()
	close(drained)
	drain.Wait()
	t.cancel()
	t.mu.Lock()
	for c := range t.conns {
		_ = c.Conn.Close()
	}
	t.mu.Unlock()
	t.tasks.Wait()
	return err
}

func (t *transport) drain(until <-chan struct{}) {
	for {
		select {
		case <-t.nt.PacketCh():
		case c := <-t.nt.StreamCh():
			_ = c.Close()
		case <-until:
			return
		}
	}
}

// FinalAdvertiseAddr returns what newTransport found out.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IP(t.advertise.Addr().AsSlice()), int(t.advertise.Port()), nil
}

// WriteTo sends a packet; see memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress sends a packet.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if t.cut(a.Addr) {
		return time.Now(), nil
	}
	return t.nt.WriteToAddress(b, a)
}

// PacketCh has the packets that came in.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.nt.PacketCh() }

// StreamCh has the streams that came in and were no hello.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout opens a stream; see memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout opens a stream.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	return t.dial(ctx, a.Addr)
}

func (t *transport) dial(ctx context.Context, addr string) (net.Conn, error) {
	if t.cut(addr) {
		return nil, fmt.Errorf("dial %s: cut off", addr)
	}
	raw, err := t.dialer(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := t.track(raw, false)
	if c == nil {
		_ = raw.Close()
		return nil, ErrStopped
	}
	return c, nil
}

// conn is a stream that the transport can close at its end.
type conn struct {
	net.Conn
	t       *transport
	inbound bool
	reader  *bufio.Reader
}

// Read reads through the buffer that the first byte was looked at in.
func (c *conn) Read(b []byte) (int, error) { return c.reader.Read(b) }

// Close closes the stream; twice is fine.
func (c *conn) Close() error {
	c.t.forget(c)
	return c.Conn.Close()
}
