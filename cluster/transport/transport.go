package transport

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// ErrStopped is given to what a Stop interrupted.
var ErrStopped = errors.New("transport stopped")

// Transport talks to the other nodes of a cluster. All methods may be called at
// the same time.
type Transport struct {
	cfg     Config
	metrics *metrics
	begin   time.Time
	cluster atomic.Pointer[meta.ClusterID]
	routes  routes
	lives   lives
	grpc    *grpcListener
	pace    pace
	seldom  seldom

	peers atomic.Pointer[map[identity.NodeID]*peer] // replaced whole, under mu

	ctx     context.Context // done from Stop on
	cancel  context.CancelFunc
	running sync.WaitGroup
	ended   chan struct{}

	mu       sync.Mutex
	started  bool
	stopped  bool
	conns    map[net.Conn]struct{} // open ones, for Stop to close
	incoming map[incomingKey]*incoming
	pending  []net.Conn                   // accepted, without a hello yet, oldest first
	former   map[identity.NodeID]struct{} // forgotten ones, maxFormer at most
}

// New makes a transport, which owns c.Listener from then on. It talks to
// nobody before Start.
func New(c Config) (*Transport, error) {
	if c.Wall == nil {
		c.Wall = func() int64 { return time.Now().UnixNano() }
	}
	if c.Headroom == nil {
		c.Headroom = func() int64 { return math.MaxInt64 }
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("make transport: %w", err)
	}
	t := &Transport{
		cfg: c, begin: time.Now(), ended: make(chan struct{}),
		lives: lives{limit: c.MaxPeers, of: map[identity.NodeID]life{}},
		grpc:  newGRPCListener(c.Listener.Addr(), c.GRPCBacklog),
		conns: map[net.Conn]struct{}{}, incoming: map[incomingKey]*incoming{},
		former: map[identity.NodeID]struct{}{},
	}
	t.pace.rate = c.SnapshotBytesPerSecond
	t.seldom.logger = c.Logger
	t.cluster.Store(&c.Cluster)
	t.peers.Store(&map[identity.NodeID]*peer{})
	t.ctx, t.cancel = context.WithCancel(context.Background())
	var err error
	if t.metrics, err = newMetrics(c.Registerer, t.connected, t.queuedBytes); err != nil {
		t.cancel()
		return nil, fmt.Errorf("make transport: %w", err)
	}
	return t, nil
}

// Start lets the transport take and make connections. A second call does
// nothing, nor does one after Stop.
func (t *Transport) Start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.started || t.stopped {
		return
	}
	t.started = true
	t.running.Go(t.acceptLoop)
	for _, p := range *t.peers.Load() {
		t.running.Go(p.loop)
	}
}

// Stop closes the listener and all connections but those that a gRPC server
// took, and waits until every goroutine has ended, or ctx is done. Snapshots
// under way fail with ErrStopped. It may be called before Start, and again.
func (t *Transport) Stop(ctx context.Context) error {
	t.mu.Lock()
	if !t.stopped {
		t.stopped = true
		t.cancel()
		_ = t.cfg.Listener.Close() // nothing can be done about it
		for c := range t.conns {
			_ = c.Close()
		}
		started := t.started
		go t.end(started) // ends with the goroutines; Stop waits for it below
	}
	t.mu.Unlock()
	select {
	case <-t.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop transport: %w", ctx.Err())
	}
}

func (t *Transport) end(started bool) {
	defer close(t.ended)
	t.running.Wait()
	t.grpc.shut()
	for _, p := range *t.peers.Load() {
		p.end(ErrStopped)
	}
	t.metrics.unregister(t.cfg.Registerer)
}

// SetCluster says which cluster this node belongs to, once it does. A node
// never changes its cluster: it returns an error if another one is known.
func (t *Transport) SetCluster(id meta.ClusterID) error {
	for {
		old := t.cluster.Load()
		if *old == id {
			return nil
		}
		if !old.IsZero() {
			return fmt.Errorf("set cluster %s: %w: this node is in %s", id, ErrAnotherCluster, *old)
		}
		if t.cluster.CompareAndSwap(old, &id) {
			break
		}
	}
	for _, p := range *t.peers.Load() {
		p.kick()
	}
	return nil
}

// GRPCListener returns where connections that speak HTTP/2 come out, TLS done
// already: a gRPC server on it needs no credentials of its own. While nobody
// accepts, a few wait and the rest is closed.
func (t *Transport) GRPCListener() net.Listener { return t.grpc }

// Send takes over messages of one group, and what they point to, which must not
// be changed any more. It does not block: what cannot be sent is dropped, raft
// sends it again. Plain heartbeats and their answers go with what is sent next, or
// at Flush.
func (t *Transport) Send(g storage.GroupID, messages []*pb.Message) {
	for _, m := range messages {
		t.send(g, m)
	}
}

// Flush has the plain heartbeats and their answers sent that Send kept so far. It
// does not block.
func (t *Transport) Flush() {
	for _, p := range *t.peers.Load() {
		p.out.flush()
	}
}

func (t *Transport) send(g storage.GroupID, m *pb.Message) {
	it := item{group: g, size: sizeMessage(m), m: m}
	p := t.peerOf(g, storage.ReplicaID(m.GetTo()))
	switch {
	case p == nil:
		t.drop(it, dropUnknown)
	case it.size > t.cfg.MessageBytes:
		t.seldom.about("large").Warn("raft message too large to be sent", "group", g, "type", m.GetType(), "bytes", it.size)
		p.drop(it, dropLarge)
	case !p.out.push(it):
		p.drop(it, dropFull)
	}
}

// Connect begins to keep a connection to a node, though nothing is to be sent
// to it yet: its clock becomes known.
func (t *Transport) Connect(n identity.NodeID) {
	t.mu.Lock()
	delete(t.former, n)
	t.mu.Unlock()
	if p := t.peer(n); p != nil {
		p.kick()
	}
}

// Forget ends the connections to and from a node that is no longer part of the
// cluster, and what is known of it. Messages to it make it known again, as long as
// a group's configuration has a replica there; that it cannot be reached is no news
// then, until Connect is called for it.
func (t *Transport) Forget(n identity.NodeID) {
	t.mu.Lock()
	if len(t.former) >= maxFormer {
		clear(t.former)
	}
	t.former[n] = struct{}{}
	p := (*t.peers.Load())[n]
	if p != nil {
		peers := maps.Clone(*t.peers.Load())
		delete(peers, n)
		t.peers.Store(&peers)
		p.cancel()
	}
	for key, in := range t.incoming {
		if key.node == n {
			_ = in.conn.Close()
		}
	}
	t.mu.Unlock()
	t.lives.forget(n)
	t.routes.forget(n)
	if p != nil {
		p.end(fmt.Errorf("%w: node %s was forgotten", ErrRefused, n))
	}
}

// maxFormer bounds the forgotten nodes that are remembered as such.
const maxFormer = 1 << 12

// peerOf returns the peer on which a replica lives, or nil.
func (t *Transport) peerOf(g storage.GroupID, r storage.ReplicaID) *peer {
	n, ok := t.cfg.Resolve(g, r)
	if !ok {
		if n, ok = t.routes.find(g, r); !ok {
			return nil
		}
	}
	return t.peer(n)
}

// peer returns a node's peer and makes it if need be. It is nil for this node
// itself, and when there are too many.
func (t *Transport) peer(n identity.NodeID) *peer {
	if p := (*t.peers.Load())[n]; p != nil {
		return p
	}
	if n == t.cfg.Self || n.IsZero() {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := *t.peers.Load()
	if p := old[n]; p != nil {
		return p
	}
	if t.stopped || len(old) >= t.cfg.MaxPeers {
		return nil
	}
	p := newPeer(t, n)
	_, p.former = t.former[n]
	peers := maps.Clone(old)
	peers[n] = p
	t.peers.Store(&peers)
	if t.started {
		t.running.Go(p.loop)
	}
	return p
}

// drop counts a message that is not sent, and tells raft if it would wait.
func (t *Transport) drop(it item, reason string) {
	t.metrics.dropped.WithLabelValues(reason).Inc()
	if isAppend(it.m) && t.cfg.Unreachable != nil {
		t.cfg.Unreachable(it.group, storage.ReplicaID(it.m.GetTo()))
	}
}

// track has Stop close a connection. It says false after Stop.
func (t *Transport) track(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return false
	}
	t.conns[c] = struct{}{}
	return true
}

func (t *Transport) untrack(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, c)
}

// now is this process's monotonic clock.
func (t *Transport) now() time.Duration { return time.Since(t.begin) }
