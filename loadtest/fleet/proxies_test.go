package fleet

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"testing"
	"time"
)

// peer is where other nodes reach this one's peer port.
func (s *Spec) peer() string {
	if s.Detour != nil {
		return s.Detour.Peer
	}
	return s.Addresses.Peer
}

func TestProxies(t *testing.T) {
	if err := cutOff(t.Context(), t.TempDir(), newProxies(), nil); err != nil {
		t.Fatal(err)
	}
}

// ends are the two nodes of a network of proxies, in this process.
type ends struct {
	*testing.T
	at   [2]Place
	tcp  [2]net.Listener
	udp  [2]*net.UDPConn
	call int
}

func newEnds(t *testing.T, n Network) *ends {
	t.Helper()
	e := &ends{T: t}
	for i := range 2 {
		var err error
		if e.at[i], err = n.Place(i); err != nil {
			t.Fatal(err)
		}
		if e.tcp[i], err = net.Listen("tcp", e.at[i].Addresses.Peer); err != nil {
			t.Fatal(err)
		}
		gossip, err := net.ResolveUDPAddr("udp", e.at[i].Addresses.Gossip)
		if err != nil {
			t.Fatal(err)
		}
		if e.udp[i], err = net.ListenUDP("udp", gossip); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = e.tcp[i].Close()
			_ = e.udp[i].Close()
		})
	}
	return e
}

const long, short = 60 * time.Second, 150 * time.Millisecond

// connect makes a connection from the first node to the second one.
func (e *ends) connect() (here, there net.Conn) {
	e.Helper()
	here, err := e.at[0].Detour.Dial(e.Context(), "tcp", e.at[1].Detour.Peer)
	if err != nil {
		e.Fatal(err)
	}
	there, err = e.tcp[1].Accept()
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() {
		_ = here.Close()
		_ = there.Close()
	})
	return here, there
}

// comes says whether what is written to one end comes out of the other.
func (e *ends) comes(to, from net.Conn, within time.Duration) bool {
	e.Helper()
	if _, err := to.Write([]byte("line\n")); err != nil {
		e.Fatal(err)
	}
	return e.came(from, within)
}

func (e *ends) came(from net.Conn, within time.Duration) bool {
	e.Helper()
	if err := from.SetReadDeadline(time.Now().Add(within)); err != nil {
		e.Fatal(err)
	}
	line, err := bufio.NewReader(from).ReadString('\n')
	if err != nil && !os.IsTimeout(err) {
		e.Fatal(err)
	}
	return line == "line\n"
}

// packet says whether a packet from the first node comes to the second one, and an
// answer to it back. Packets may be lost or late: they are sent again, and those of
// earlier calls don't count.
func (e *ends) packet(within time.Duration) (there, back bool) {
	e.Helper()
	e.call++
	door, err := net.ResolveUDPAddr("udp", e.at[1].Detour.Gossip)
	if err != nil {
		e.Fatal(err)
	}
	ping, pong := fmt.Sprint("ping ", e.call), fmt.Sprint("pong ", e.call)
	for until := time.Now().Add(within); !back && time.Now().Before(until); {
		if _, err := e.udp[0].WriteTo([]byte(ping), door); err != nil {
			e.Fatal(err)
		}
		at, came := e.hear(1, ping)
		if !came {
			continue
		}
		there = true
		if _, err := e.udp[1].WriteTo([]byte(pong), at); err != nil {
			e.Fatal(err)
		}
		_, back = e.hear(0, pong)
	}
	return there, back
}

// hear waits a little for a packet, and says where it came from.
func (e *ends) hear(node int, want string) (net.Addr, bool) {
	_ = e.udp[node].SetReadDeadline(time.Now().Add(short)) // shows in the read
	b := make([]byte, 100)
	for {
		n, at, err := e.udp[node].ReadFrom(b)
		if err != nil {
			return nil, false
		}
		if string(b[:n]) == want {
			return at, true
		}
	}
}

// Each direction is cut alone, for streams and for packets; a stream stands still
// and loses nothing.
func TestProxiesCutOneDirection(t *testing.T) {
	n := newProxies()
	t.Cleanup(func() { _ = n.Close() })
	e := newEnds(t, n)
	here, there := e.connect()
	if !e.comes(here, there, long) || !e.comes(there, here, long) {
		t.Fatal("nothing comes through")
	}
	if there, back := e.packet(long); !there || !back {
		t.Fatal("no packet comes through")
	}
	for _, x := range []struct {
		way          Way
		out, in      bool // from the first node, and to it
		pings, pongs bool
	}{
		{BothWays, false, false, false, false},
		{Inbound, true, false, true, false},
		{Outbound, false, true, false, false},
	} {
		if err := n.Cut(0, []int{1}, x.way); err != nil {
			t.Fatal(err)
		}
		wait := func(open bool) time.Duration {
			if open {
				return long
			}
			return short
		}
		if e.comes(here, there, wait(x.out)) != x.out || e.comes(there, here, wait(x.in)) != x.in {
			t.Errorf("%v: a stream passes where it should not, or the other way round", x.way)
		}
		if pings, pongs := e.packet(2 * short); pings != x.pings || pongs != x.pongs {
			t.Errorf("%v: ping %v, pong %v", x.way, pings, pongs)
		}
		if err := n.Heal(0, []int{1}); err != nil {
			t.Fatal(err)
		}
		if !x.out && !e.came(there, long) || !x.in && !e.came(here, long) {
			t.Errorf("%v: what stood still is lost", x.way)
		}
	}
}

// open waits until so many sockets of the proxies are open.
func (e *ends) open(n *proxies, want int) {
	e.Helper()
	tick, deadline := time.NewTicker(time.Millisecond), time.After(long)
	defer tick.Stop()
	for {
		n.mu.Lock()
		open := len(n.open)
		n.mu.Unlock()
		if open == want {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			e.Fatalf("%d sockets are open, want %d", open, want)
		}
	}
}

// Who dials into a partition and gives up is nobody that the other side hears of.
func TestProxiesForgetWhoGaveUp(t *testing.T) {
	n := newProxies()
	t.Cleanup(func() { _ = n.Close() })
	e := newEnds(t, n)
	if err := n.Cut(0, []int{1}, Inbound); err != nil {
		t.Fatal(err)
	}
	lost, err := e.at[0].Detour.Dial(t.Context(), "tcp", e.at[1].Detour.Peer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lost.Write([]byte("from the past\n")); err != nil {
		t.Fatal(err)
	}
	const own = 2 * 3 // two listeners and a socket in front of each node
	e.open(n, own+1)
	_ = lost.Close()
	e.open(n, own)
	if err := n.Heal(0, []int{1}); err != nil {
		t.Fatal(err)
	}
	here, there := e.connect()
	if !e.comes(here, there, long) {
		t.Error("the first to come was another connection")
	}
}
