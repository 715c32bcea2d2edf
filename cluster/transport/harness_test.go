package transport

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

var testCluster = meta.ClusterID{0xc1}

func nodeID(i int) identity.NodeID { return identity.NodeID{15: byte(i)} }

// received is a message as a node got it.
type received struct {
	group storage.GroupID
	m     *pb.Message
}

// world is a few nodes on loopback. Replica i of every group lives on node i.
type world struct {
	t  testing.TB
	mu sync.Mutex
	// addresses may be changed: a node's next attempts go there.
	addresses map[identity.NodeID]string
	nodes     map[int]*testNode
}

type testNode struct {
	*Transport
	w        *world
	i        int
	registry *prometheus.Registry

	mu          sync.Mutex
	got         []received
	unreachable int
	change      chan struct{} // closed and replaced whenever something came
}

func newWorld(t testing.TB) *world {
	return &world{t: t, addresses: map[identity.NodeID]string{}, nodes: map[int]*testNode{}}
}

func (w *world) address(n identity.NodeID) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, ok := w.addresses[n]
	return a, ok
}

func (w *world) setAddress(n identity.NodeID, a string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addresses[n] = a
}

// config is what all nodes begin with: patient, for a loaded machine.
func (w *world) config(i int, n *testNode) Config {
	c := DefaultConfig()
	c.Self, c.Cluster, c.Boot, c.Life, c.Name = nodeID(i), testCluster, 1, uint64(100+i), "node"
	c.Resolve = func(_ storage.GroupID, r storage.ReplicaID) (identity.NodeID, bool) {
		return nodeID(int(r)), r != 0 && r < 100
	}
	c.Address = w.address
	c.Receive = n.receive
	c.ReceiveSnapshot = func(identity.NodeID, storage.GroupID, *pb.Message, io.Reader) error { return nil }
	c.Unreachable = func(storage.GroupID, storage.ReplicaID) {
		n.mu.Lock()
		n.unreachable++
		n.mu.Unlock()
	}
	c.Logger, c.Registerer = slog.New(slog.DiscardHandler), n.registry
	c.Timeout, c.DialTimeout, c.HelloTimeout = 20*time.Second, 20*time.Second, 30*time.Second
	c.Keepalive, c.BackoffMax = 50*time.Millisecond, 50*time.Millisecond
	return c
}

// start runs node i. change may change its configuration.
func (w *world) start(i int, change func(*Config)) *testNode {
	w.t.Helper()
	n := &testNode{w: w, i: i, registry: prometheus.NewRegistry(), change: make(chan struct{})}
	c := w.config(i, n)
	if change != nil {
		change(&c)
	}
	if c.Listener == nil {
		c.Listener = listen(w.t, "127.0.0.1:0")
	}
	w.setAddress(c.Self, c.Listener.Addr().String())
	tr, err := New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	n.Transport = tr
	w.nodes[i] = n
	tr.Start()
	w.t.Cleanup(n.stop)
	return n
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (n *testNode) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		n.w.t.Error(err)
	}
}

func (n *testNode) receive(g storage.GroupID, messages []*pb.Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range messages {
		n.got = append(n.got, received{g, m})
	}
	close(n.change)
	n.change = make(chan struct{})
}

// await returns what was received once ok is true of it.
func (n *testNode) await(what string, ok func([]received) bool) []received {
	n.w.t.Helper()
	deadline := time.After(patience)
	for {
		n.mu.Lock()
		got, change := n.got, n.change
		n.mu.Unlock()
		if ok(got) {
			return got
		}
		select {
		case <-change:
		case <-deadline:
			n.w.t.Fatalf("node %d waits for %s; it has %d messages, peers %+v", n.i, what, len(got), n.Peers())
		}
	}
}

// until waits for a condition that nothing announces.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// status of the way to node i.
func (n *testNode) status(i int) PeerStatus {
	for _, s := range n.Peers() {
		if s.Node == nodeID(i) {
			return s
		}
	}
	return PeerStatus{}
}

func (n *testNode) connected(i int) {
	n.w.t.Helper()
	n.Connect(nodeID(i))
	until(n.w.t, "a connection", func() bool { return n.status(i).Connected })
}

// told is how many dropped appends raft was told of.
func (n *testNode) told() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.unreachable
}

// metric sums a counter or gauge over its labels.
func (n *testNode) metric(name string) float64 {
	families, err := n.registry.Gather()
	if err != nil {
		n.w.t.Error(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == "waystation_transport_"+name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func ptr[T any](v T) *T { return &v }

func message(typ pb.MessageType, from, to int, index uint64) *pb.Message {
	return &pb.Message{Type: &typ, From: ptr(uint64(from)), To: ptr(uint64(to)), Term: ptr(uint64(1)), Index: &index}
}

// appendMessage has one entry of the given size.
func appendMessage(from, to int, index uint64, size int) *pb.Message {
	m := message(pb.MsgApp, from, to, index)
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(uint64(i) + index)
	}
	m.Entries = []*pb.Entry{{Term: ptr(uint64(1)), Index: ptr(index + 1), Type: ptr(pb.EntryNormal), Data: data}}
	return m
}

func heartbeat(from, to int) *pb.Message { return message(pb.MsgHeartbeat, from, to, 0) }
