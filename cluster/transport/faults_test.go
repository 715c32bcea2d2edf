package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/internal/freeport"
	"github.com/waystation/waystation/storage"
)

// proxy stands between two nodes and may swallow one direction.
type proxy struct {
	listener net.Listener
	to       string
	running  sync.WaitGroup

	mu        sync.Mutex
	conns     []net.Conn
	swallowed [2]bool // there, back
}

// between puts a proxy in front of a node.
func (w *world) between(i int) *proxy {
	w.t.Helper()
	to, _ := w.address(nodeID(i))
	p := &proxy{listener: listen(w.t, "127.0.0.1:0"), to: to}
	w.setAddress(nodeID(i), p.listener.Addr().String())
	p.running.Go(p.accept)
	w.t.Cleanup(p.close)
	return p
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		p.running.Go(func() { p.copy(out, in, 0) })
		p.running.Go(func() { p.copy(in, out, 1) })
	}
}

func (p *proxy) copy(to, from net.Conn, way int) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		swallow := p.swallowed[way]
		p.mu.Unlock()
		if swallow {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) swallow(there, back bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallowed = [2]bool{there, back}
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *proxy) close() {
	p.listener.Close()
	p.cut()
	p.running.Wait()
}

// sendUntil sends messages until one arrives that was sent by now.
func sendUntil(t *testing.T, a, b *testNode) {
	t.Helper()
	b.mu.Lock()
	before := len(b.got)
	b.mu.Unlock()
	until(t, "a message", func() bool {
		a.Send(1, []*pb.Message{heartbeat(a.i, b.i)})
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.got) > before
	})
}

func TestRestart(t *testing.T) {
	for name, samePort := range map[string]bool{"same port": true, "another port": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			address, err := freeport.Addr() // nobody gets it between the two lives
			if err != nil {
				t.Fatal(err)
			}
			a, b := w.start(1, nil), w.start(2, func(c *Config) { c.Listener = listen(t, address) })
			sendUntil(t, a, b)
			sendUntil(t, b, a)
			b.stop()
			again := w.start(2, func(c *Config) {
				c.Boot, c.Life = 2, 202
				if samePort {
					c.Listener = listen(t, address)
				}
			})
			sendUntil(t, a, again)
			sendUntil(t, again, a)
		})
	}
}

func TestBrokenConnection(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(1, nil), w.start(2, nil)
	p := w.between(2)
	for range 5 {
		sendUntil(t, a, b)
		p.cut()
	}
	sendUntil(t, a, b)
	if a.metric("disconnects_total") < 5 {
		t.Fatal("breaks were not counted")
	}
}

// A connection on which one direction is dead is given up, whichever it is,
// and made anew once the network is whole.
func TestOneSidedBreak(t *testing.T) {
	for name, there := range map[string]bool{"there": true, "back": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			hasty := func(c *Config) { c.Timeout, c.HelloTimeout = 300*time.Millisecond, 300*time.Millisecond }
			a, b := w.start(1, hasty), w.start(2, hasty)
			p := w.between(2)
			sendUntil(t, a, b)
			p.swallow(there, !there)
			before := a.metric("disconnects_total")
			until(t, "the connection's end", func() bool { return a.metric("disconnects_total") > before })
			p.swallow(false, false)
			sendUntil(t, a, b)
		})
	}
}

// fakePeer accepts connections as node i and answers hellos, and does nothing
// else.
func (w *world) fakePeer(i int, then func(net.Conn)) {
	l := listen(w.t, "127.0.0.1:0")
	w.setAddress(nodeID(i), l.Addr().String())
	var running sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			running.Go(func() { w.fakeAnswer(i, c, then) })
		}
	})
	w.t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
}

func (w *world) fakeAnswer(i int, c net.Conn, then func(net.Conn)) {
	if _, err := io.ReadFull(c, make([]byte, len(magic))); err != nil {
		return
	}
	if _, err := readBlock(c); err != nil {
		return
	}
	own := Hello{Version: Version, Oldest: OldestVersion, Cluster: testCluster, Node: nodeID(i), Boot: 1, Life: uint64(100 + i)}
	if writeBlock(c, nil, appendAnswer(nil, nil, own)) == nil && then != nil {
		then(c)
	}
}

// A peer that says hello and never reads: what waits for it stays bounded, and
// nobody else notices.
func TestPeerThatNeverReads(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"seen by the pongs":  func(c *Config) { c.Timeout = 300 * time.Millisecond },
		"seen by the writes": func(c *Config) { c.WriteTimeout = 300 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			const limit = 8 << 20
			a := w.start(1, func(c *Config) {
				change(c)
				c.QueuedBytes = limit
			})
			w.fakePeer(2, nil)
			c := w.start(3, nil)
			index := uint64(0)
			until(t, "the connection's end", func() bool {
				for range 20 {
					index++
					a.Send(1, []*pb.Message{appendMessage(1, 2, index, 256<<10)})
				}
				if s := a.status(2); s.WaitingBytes > limit+1<<20 {
					t.Fatalf("%d bytes wait", s.WaitingBytes)
				}
				return a.metric("disconnects_total") > 0
			})
			if s := a.status(2); s.Dropped == 0 || a.told() == 0 {
				t.Fatalf("dropped %d, told raft %d times", s.Dropped, a.told())
			}
			sendUntil(t, a, c)
		})
	}
}

// A peer that dialled and then says nothing is hung up on.
func TestSilentPeer(t *testing.T) {
	n := newWorld(t).start(1, func(c *Config) { c.Timeout = 200 * time.Millisecond })
	c, _, r := n.pose(n.helloFrom(2))
	if r != nil {
		t.Fatal(r)
	}
	closed(t, c)
}

// A second connection of the same life takes the first one's place, and a new
// life closes what an earlier one has open.
func TestConnectionsAreReplaced(t *testing.T) {
	n := newWorld(t).start(1, nil)
	first, _, _ := n.pose(n.helloFrom(2))
	second, _, r := n.pose(n.helloFrom(2))
	if r != nil {
		t.Fatal(r)
	}
	closed(t, first)
	h := n.helloFrom(2)
	h.Boot, h.Life = 2, 9
	third, _, r := n.pose(h)
	if r != nil {
		t.Fatal(r)
	}
	closed(t, second)
	if _, err := third.Write(encode(t, []*pb.Message{heartbeat(2, 1)})); err != nil {
		t.Fatal(err)
	}
	n.await("a heartbeat", func(got []received) bool { return len(got) == 1 })
	n.Forget(nodeID(2))
	closed(t, third)
}

func TestDropsOnlyOverLimits(t *testing.T) {
	w := newWorld(t)
	a := w.start(1, func(c *Config) {
		c.QueuedMessages, c.QueuedBytes, c.ControlMessages = 10, 4<<20, 5
		c.MessageBytes = 2 << 20
	})
	// Nobody answers the hello: all waits.
	l := listen(t, "127.0.0.1:0")
	w.setAddress(nodeID(2), l.Addr().String())
	for i := range uint64(15) {
		a.Send(storage.GroupID(i), []*pb.Message{appendMessage(1, 2, i, 100), heartbeat(1, 2)})
	}
	s := a.status(2)
	if s.Waiting != 15 || s.Dropped != 15 || s.Connected {
		t.Fatalf("%+v", s)
	}
	if a.told() != 5 {
		t.Fatalf("raft was told of %d appends", a.told())
	}
	a.Send(1, []*pb.Message{appendMessage(1, 2, 99, 3<<20)})
	if d := a.status(2).Dropped; d != 16 {
		t.Fatalf("%d dropped: one is too large", d)
	}
	a.Send(1, []*pb.Message{message(pb.MsgVote, 1, 0, 9)})
	if d := a.metric("messages_dropped_total"); d != 17 {
		t.Fatalf("%v dropped: one is for nobody", d)
	}
	a.stop() // all that waits is counted as dropped
	if d := a.status(2); d.Dropped != 31 || d.Waiting != 0 {
		t.Fatalf("%+v", d)
	}
	l.Close()
}

func TestStopInTheMidst(t *testing.T) {
	w := newWorld(t)
	slow := func(c *Config) { c.SnapshotBytesPerSecond = 1 << 20 }
	nodes := []*testNode{w.start(1, slow), w.start(2, slow), w.start(3, slow)}
	quit := make(chan struct{})
	var senders sync.WaitGroup
	done := make(chan error, 100)
	sent := 0
	for _, from := range nodes {
		for to := 1; to <= 3; to++ {
			if to == from.i {
				continue
			}
			senders.Go(func() {
				for i := uint64(0); ; i++ {
					select {
					case <-quit:
						return
					default:
						from.Send(1, []*pb.Message{appendMessage(from.i, to, i, 10_000), heartbeat(from.i, to)})
					}
				}
			})
			for range 3 {
				sent++
				from.SendSnapshot(2, message(pb.MsgSnap, from.i, to, 1), endless, func(err error) { done <- err })
			}
		}
	}
	nodes[0].await("traffic", func(got []received) bool { return len(got) > 100 })
	var stops sync.WaitGroup
	for _, n := range nodes {
		stops.Go(n.stop)
		stops.Go(n.stop)
	}
	stops.Wait()
	close(quit)
	senders.Wait()
	for range sent {
		if err := <-done; err == nil {
			t.Error("an endless snapshot was sent")
		}
	}
	nodes[0].SendSnapshot(2, message(pb.MsgSnap, 1, 2, 1), endless, func(err error) { done <- err })
	if err := <-done; !errors.Is(err, ErrStopped) {
		t.Fatal(err)
	}
}

func endless(w io.Writer) error {
	b := make([]byte, 10_000)
	for {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
}

func TestStopBeforeStart(t *testing.T) {
	w := newWorld(t)
	n := w.start(1, nil)
	n.stop()
	n.Start()
	c := n.cfg
	c.Listener = listen(t, "127.0.0.1:0")
	tr, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	tr.Send(1, []*pb.Message{heartbeat(1, 2)})
	if err := tr.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	tr.Start()
	if _, err := net.Dial("tcp", c.Listener.Addr().String()); err == nil {
		t.Fatal("it still listens")
	}
}
