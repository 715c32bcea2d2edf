package transport

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
)

// raw connects to a node without saying anything.
func (n *testNode) raw() net.Conn {
	n.w.t.Helper()
	c, err := net.Dial("tcp", n.cfg.Listener.Addr().String())
	if err != nil {
		n.w.t.Fatal(err)
	}
	n.w.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		n.w.t.Fatal(err)
	}
	return c
}

// helloFrom is a correct hello of node from.
func (n *testNode) helloFrom(from int) Hello {
	return Hello{
		Version: Version, Oldest: OldestVersion, Cluster: testCluster, Node: nodeID(from), Boot: 1, Life: uint64(100 + from),
		Dialled: n.cfg.Self, Lane: LaneRaft, Wall: 1,
	}
}

// pose introduces itself with h and returns the node's answer.
func (n *testNode) pose(h Hello) (net.Conn, Hello, *Refusal) {
	n.w.t.Helper()
	c := n.raw()
	if err := writeBlock(c, magic[:], h.append(nil)); err != nil {
		n.w.t.Fatal(err)
	}
	b, err := readBlock(c)
	if err != nil {
		n.w.t.Fatal(err)
	}
	own, r, err := parseAnswer(b)
	if err != nil {
		n.w.t.Fatal(err)
	}
	return c, own, r
}

// closed waits until the other side has closed c.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var b [4096]byte
	for {
		_, err := c.Read(b[:])
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatal("the connection stays open")
		}
		if err != nil {
			return
		}
	}
}

func TestStrangers(t *testing.T) {
	noise := make([]byte, 1<<20)
	_, _ = rand.Read(noise)
	huge := append(magic[:len(magic):len(magic)], 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0)
	var bad bytes.Buffer
	if err := writeBlock(&bad, magic[:], []byte("no hello")); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"noise": noise, "http": []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "nearly http 2": []byte("PRI * HTTP/1.0\r\n\r\n"),
		"tls": {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc}, "a huge hello": huge, "a bad hello": bad.Bytes(),
	} {
		t.Run(name, func(t *testing.T) {
			n := newWorld(t).start(1, nil)
			c := n.raw()
			_, _ = c.Write(b) // it may be closed meanwhile
			closed(t, c)
			until(t, "a count", func() bool { return n.metric("foreign_connections_total") == 1 })
		})
	}
}

func TestSilenceBeforeTheHello(t *testing.T) {
	n := newWorld(t).start(1, func(c *Config) { c.HelloTimeout = 50 * time.Millisecond })
	silent, half, slow := n.raw(), n.raw(), n.raw()
	if _, err := half.Write(magic[:5]); err != nil {
		t.Fatal(err)
	}
	// A byte now and then does not help.
	go func() {
		h := n.helloFrom(2)
		var b bytes.Buffer
		_ = writeBlock(&b, magic[:], h.append(nil))
		for _, x := range b.Bytes() {
			if _, err := slow.Write([]byte{x}); err != nil {
				return
			}
			timer := time.NewTimer(10 * time.Millisecond)
			<-timer.C
		}
	}()
	for _, c := range []net.Conn{silent, half, slow} {
		closed(t, c)
	}
	until(t, "counts", func() bool { return n.metric("foreign_connections_total") == 3 })
}

// However many strangers hold connections, a peer gets in.
func TestStrangersKeepNobodyOut(t *testing.T) {
	w := newWorld(t)
	a := w.start(1, func(c *Config) { c.PendingConns, c.HelloTimeout = 4, 10*patience })
	strangers := make([]net.Conn, 12)
	for i := range strangers {
		strangers[i] = a.raw()
	}
	closed(t, strangers[0])
	b := w.start(2, nil)
	b.connected(1)
	b.Send(1, []*pb.Message{heartbeat(2, 1)})
	a.await("a heartbeat", func(got []received) bool { return len(got) == 1 })
}

func TestRefusals(t *testing.T) {
	removed := nodeID(66)
	admit := func(h Hello) error {
		switch h.Node {
		case removed:
			return fmt.Errorf("admit: %w since monday", ErrRemoved)
		case nodeID(67):
			return errors.New("not on sundays")
		}
		return nil
	}
	for name, x := range map[string]struct {
		change func(*Hello)
		want   error
		text   string
	}{
		"another cluster":     {func(h *Hello) { h.Cluster = meta.ClusterID{9} }, ErrAnotherCluster, "09000000"},
		"no cluster":          {func(h *Hello) { h.Cluster = meta.ClusterID{} }, ErrNotMember, ""},
		"another node":        {func(h *Hello) { h.Dialled = nodeID(3) }, ErrWrongNode, nodeID(1).String()},
		"a newer build":       {func(h *Hello) { h.Version, h.Oldest = Version+2, Version+1 }, ErrIncompatible, "protocols 2 to 3"},
		"an unknown lane":     {func(h *Hello) { h.Lane = 9 }, ErrIncompatible, "lane 9"},
		"a removed node":      {func(h *Hello) { h.Node = removed }, ErrRemoved, "since monday"},
		"whom admit refuses":  {func(h *Hello) { h.Node = nodeID(67) }, ErrRefused, "not on sundays"},
		"oneself":             {func(h *Hello) { h.Node, h.Life = nodeID(1), 101 }, ErrOneself, ""},
		"a copy of oneself":   {func(h *Hello) { h.Node, h.Life = nodeID(1), 7 }, ErrCopied, "life 7"},
		"a copy of a peer":    {func(h *Hello) { h.Life = 7 }, ErrCopied, nodeID(2).String()},
		"a peer rolled back":  {func(h *Hello) { h.Node, h.Boot = nodeID(3), 4 }, ErrCopied, "boot 4"},
		"a newer compatible":  {func(h *Hello) { h.Version, h.Oldest = Version+2, Version }, nil, ""},
		"the same life again": {func(*Hello) {}, nil, ""},
		"a restart":           {func(h *Hello) { h.Boot, h.Life = 2, 7 }, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := newWorld(t).start(1, func(c *Config) { c.Admit = admit })
			_, own, r := n.pose(n.helloFrom(2))
			if r != nil || own.Node != n.cfg.Self || own.Life != n.cfg.Life || own.Cluster != testCluster {
				t.Fatalf("%v %+v", r, own)
			}
			three := n.helloFrom(3)
			three.Boot = 5
			if _, _, r := n.pose(three); r != nil {
				t.Fatal(r)
			}
			h := n.helloFrom(2)
			x.change(&h)
			c, _, r := n.pose(h)
			if x.want == nil {
				if r != nil {
					t.Fatal(r)
				}
				return
			}
			if !errors.Is(r, x.want) || !strings.Contains(r.Text, x.text) {
				t.Fatalf("%v, want %v", r, x.want)
			}
			closed(t, c)
			until(t, "a count", func() bool { return n.metric("refused_total") == 1 })
		})
	}
}

func TestTooManyNodes(t *testing.T) {
	n := newWorld(t).start(1, func(c *Config) { c.MaxPeers = 2 })
	for i, want := range []error{2: nil, 3: nil, 4: ErrRefused} {
		if i < 2 {
			continue
		}
		if _, _, r := n.pose(n.helloFrom(i)); (r != nil) != (want != nil) || r != nil && !errors.Is(r, want) {
			t.Fatalf("node %d: %v", i, r)
		}
	}
	n.Forget(nodeID(2))
	if _, _, r := n.pose(n.helloFrom(4)); r != nil {
		t.Fatal(r)
	}
	until(t, "two peers", func() bool { return len(n.Peers()) == 2 })
	if n.peer(nodeID(5)) != nil {
		t.Fatal("a third peer")
	}
}

// A refusal is told to who dialled, whichever side it came from.
func TestDiallerLearnsWhy(t *testing.T) {
	for name, x := range map[string]struct {
		one, two func(*Config)
		want     error
		theirs   bool
	}{
		"another cluster":            {nil, func(c *Config) { c.Cluster = meta.ClusterID{2} }, ErrAnotherCluster, true},
		"refused by the peer":        {nil, func(c *Config) { c.Admit = func(Hello) error { return ErrRemoved } }, ErrRemoved, true},
		"the peer is not wanted":     {func(c *Config) { c.Admit = func(Hello) error { return ErrCopied } }, nil, ErrCopied, false},
		"another node is there":      {nil, func(c *Config) { c.Self = nodeID(3) }, ErrWrongNode, true},
		"the peer has no cluster":    {nil, func(c *Config) { c.Cluster = meta.ClusterID{} }, ErrNotMember, true},
		"this node has no cluster":   {func(c *Config) { c.Cluster = meta.ClusterID{} }, nil, ErrNotMember, false},
		"nobody knows the address":   {func(c *Config) { c.Address = func(identity.NodeID) (string, bool) { return "", false } }, nil, nil, false},
		"nobody is at the address":   {func(c *Config) { c.Address = func(identity.NodeID) (string, bool) { return "127.0.0.1:1", true } }, nil, nil, false},
		"the address makes no sense": {func(c *Config) { c.Address = func(identity.NodeID) (string, bool) { return "::::", true } }, nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.start(1, x.one), w.start(2, x.two)
			w.setAddress(nodeID(2), b.cfg.Listener.Addr().String())
			a.Connect(nodeID(2))
			until(t, "a reason", func() bool { return a.status(2).Err != nil })
			s := a.status(2)
			var r *Refusal
			if errors.As(s.Err, &r) && r.Theirs != x.theirs || x.want != nil && !errors.Is(s.Err, x.want) || s.Connected {
				t.Fatalf("%+v", s)
			}
		})
	}
}

func TestDiallingOneself(t *testing.T) {
	w := newWorld(t)
	n := w.start(1, nil)
	w.setAddress(nodeID(2), n.cfg.Listener.Addr().String())
	n.Connect(nodeID(2))
	until(t, "a reason", func() bool { return errors.Is(n.status(2).Err, ErrOneself) })
	n.Connect(nodeID(1))
	n.Send(1, []*pb.Message{heartbeat(2, 1)})
	if s := n.status(1); !s.Node.IsZero() || n.metric("messages_dropped_total") != 1 {
		t.Fatalf("a node is its own peer: %+v", s)
	}
}

// A node that joins has no cluster at first.
func TestSetCluster(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(1, nil), w.start(2, func(c *Config) { c.Cluster = meta.ClusterID{} })
	a.Send(3, []*pb.Message{heartbeat(1, 2)})
	until(t, "a refusal", func() bool { return errors.Is(a.status(2).Err, ErrNotMember) })
	if err := b.SetCluster(testCluster); err != nil {
		t.Fatal(err)
	}
	b.await("the heartbeat that waited", func(got []received) bool { return len(got) == 1 })
	if err := b.SetCluster(testCluster); err != nil {
		t.Fatal(err)
	}
	if err := b.SetCluster(meta.ClusterID{7}); !errors.Is(err, ErrAnotherCluster) {
		t.Fatal(err)
	}
}

func TestDamageClosesTheConnection(t *testing.T) {
	frame := encode(t, examples()[1:3])
	flipped := bytes.Clone(frame)
	flipped[len(flipped)-1] ^= 1
	for name, b := range map[string][]byte{
		"checksum": flipped, "kind": appendFrame(nil, 77), "snapshot": appendFrame(nil, frameSnapChunk, 1),
		"length": {0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0}, "ping": appendFrame(nil, framePing, 1, 2),
		"too many messages": appendFrame(nil, frameMessages, 0, 0, 0xff, 0xff), "no count": appendFrame(nil, frameMessages, 1),
	} {
		t.Run(name, func(t *testing.T) {
			n := newWorld(t).start(1, nil)
			c, _, r := n.pose(n.helloFrom(2))
			if r != nil {
				t.Fatal(r)
			}
			if _, err := c.Write(append(encode(t, []*pb.Message{heartbeat(2, 1)}), b...)); err != nil {
				t.Fatal(err)
			}
			closed(t, c)
			until(t, "a count", func() bool { return n.metric("damaged_frames_total") == 1 })
			n.await("what came before", func(got []received) bool { return len(got) == 1 })
		})
	}
}

func TestHalfFrames(t *testing.T) {
	n := newWorld(t).start(1, func(c *Config) { c.Timeout, c.WriteTimeout = 100*time.Millisecond, 100*time.Millisecond })
	frame := encode(t, []*pb.Message{appendMessage(2, 1, 1, 5000)})
	for _, cut := range []int{0, 1, headerSize, headerSize + 3, len(frame) - 1} {
		gone, _, _ := n.pose(n.helloFrom(2))
		_, _ = gone.Write(frame[:cut])
		gone.Close()
		silent, _, _ := n.pose(n.helloFrom(3))
		_, _ = silent.Write(frame[:cut])
		closed(t, silent)
	}
	if n.await("nothing", func([]received) bool { return true }); len(n.got) != 0 {
		t.Fatalf("half a frame was taken: %v", n.got)
	}
}

// A message can come from the node only where its replica lives.
func TestMessagesOfOthersReplicas(t *testing.T) {
	n := newWorld(t).start(1, nil)
	two, _, _ := n.pose(n.helloFrom(2))
	three, _, _ := n.pose(n.helloFrom(3))
	mixed := []*pb.Message{heartbeat(2, 1), heartbeat(3, 1), heartbeat(500, 1)}
	if _, err := two.Write(encode(t, mixed)); err != nil {
		t.Fatal(err)
	}
	got := n.await("two messages", func(got []received) bool { return len(got) == 2 })
	if got[0].m.GetFrom() != 2 || got[1].m.GetFrom() != 500 {
		t.Fatalf("%v", got)
	}
	// Replica 500 is not known to the resolver: it lives where it was heard first.
	other := encode(t, append(mixed, heartbeat(3, 1)))
	if _, err := three.Write(other); err != nil {
		t.Fatal(err)
	}
	n.await("two more", func(got []received) bool { return len(got) == 4 })
	if d := n.metric("messages_dropped_total"); d != 3 {
		t.Fatalf("%v dropped", d)
	}
	if p := n.peerOf(1, 500); p == nil || p.node != nodeID(2) {
		t.Fatalf("replica 500 lives on %v", p)
	}
}
