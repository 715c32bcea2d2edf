package member

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/gossip"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/transport"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/peers"
	"github.com/waystation/waystation/storage"
)

// Config is what a Member is made from.
type Config struct {
	Settings *config.Config
	Identity identity.Identity
	Log      *storage.Log
	// Listener is the peer port. The member closes it.
	Listener net.Listener
	// Addresses are where others reach this node; Peer among them.
	Addresses meta.Addresses
	// TLS between the nodes, in both directions; nil for none.
	TLS *tls.Config
	// ServerOptions are for the peers' gRPC server.
	ServerOptions []grpc.ServerOption
	// Near returns where nodes of this machine gossip, nil if they are not looked
	// for. FreeGossip has gossip take a free port where its own is taken.
	Near       func(context.Context) []string
	FreeGossip bool
	// Dial connects to other nodes, and Gossip is what they are told instead of where
	// gossip listens: for a network of a load test's own. Usually both are zero.
	Dial   peers.Dial
	Gossip netip.AddrPort
	// Format is this build's storage format if zero, Wall the machine's clock in
	// Unix nanoseconds if nil.
	Format uint32
	Wall   func() int64
	// Headroom is how many bytes may still be written until the disk's reserve
	// begins, negative under it; nil: there is no end.
	Headroom func() int64
	// Fatal is told, at most once, why the node may not go on.
	Fatal func(error)

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Parts are the engine's side of the node.
type Parts struct {
	Engine *cluster.Engine
	Meta   *meta.Store
	Calls  *meta.Calls
	Work
}

// Work is what Run needs of the node.
type Work struct {
	// Machine returns the state machine of a partition's group.
	Machine func(storage.GroupID) cluster.StateMachine
	// Spread brings a group or a fence into the partitions that this node leads,
	// and returns which these are.
	Spread func(context.Context, *peerv1.SpreadRequest) ([]uint32, error)
	// Resign says that this node should lead nothing: it drains, or its clock is off.
	Resign func() bool
	// Trouble says what is wrong with this node, though it serves; empty if nothing is.
	Trouble func() string
	// DiskFree is the free space in bytes.
	DiskFree func() int64
	// Services registers what else is served to peers, beside Peer itself.
	Services func(*grpc.Server)
}

// Member is this node among the others.
type Member struct {
	cfg       Config
	log       *slog.Logger
	transport *transport.Transport
	gossip    *gossip.Gossip
	pool      *peers.Pool
	phases    *phases
	server    *grpc.Server
	early     *grpc.Server // while nodes found a cluster together

	founders atomic.Pointer[founders]

	belonging atomic.Pointer[Belonging]
	seeds     atomic.Pointer[[]string] // what --join names
	announced atomic.Bool              // meta has recorded this start
	parts     atomic.Pointer[Parts]
	state     atomic.Uint32 // gossip.State
	leaders   leaders
	moves     moves
	acked     acked
	begin     time.Time
	gate      cluster.Gate
	turn      atomic.Uint32 // which voter of meta is asked next

	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	bell   chan struct{} // the map may have changed
	leads  chan struct{} // a leader may have changed
	// resigning has the leaderships handed over at once.
	resigning chan struct{}
	stop      sync.Once

	host    string // the name before rename; Belong's alone, as is renamed
	renamed int
}

// Open listens to the other nodes.
func Open(cfg Config) (*Member, error) {
	m := &Member{
		cfg: cfg, log: cfg.Logger, begin: time.Now(), pool: peers.NewPoolOver(cfg.TLS, cfg.Dial),
		bell: make(chan struct{}, 1), leads: make(chan struct{}, 1), resigning: make(chan struct{}, 1),
	}
	if m.cfg.Format == 0 {
		m.cfg.Format = format
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	b, found, err := load(cfg.Log)
	if err != nil {
		return nil, errors.Join(err, cfg.Listener.Close())
	}
	if found {
		m.belonging.Store(&b)
		if !cfg.Settings.Given("name") {
			cfg.Settings.Name = b.Node
		}
	}
	if err := m.listen(b.Cluster); err != nil {
		return nil, errors.Join(err, cfg.Listener.Close())
	}
	if err := m.chat(); err != nil {
		m.Stop(context.Background())
		return nil, err
	}
	return m, nil
}

// listen starts raft's streams, which carry nothing as long as there is no engine.
func (m *Member) listen(id meta.ClusterID) (err error) {
	c := transport.DefaultConfig()
	c.Self, c.Boot, c.Life, c.Name = m.cfg.Identity.Node, m.cfg.Identity.Boot, m.cfg.Identity.Life, m.cfg.Settings.Name
	c.Cluster, c.Feature, c.Format, c.Wall = id, featureLevel, m.cfg.Format, m.cfg.Wall
	c.Listener, c.TLS, c.Dial = m.cfg.Listener, m.cfg.TLS, m.cfg.Dial
	c.Resolve, c.Address, c.Admit = m.resolve, m.address, m.admit
	c.Receive, c.ReceiveSnapshot, c.Unreachable = m.gate.Receive, m.gate.ReceiveSnapshot, m.gate.Unreachable
	c.Gone = m.gone
	c.Together, c.Headroom = m.gate.Together, m.cfg.Headroom
	c.Logger, c.Registerer = m.log, m.cfg.Registerer
	if m.transport, err = transport.New(c); err != nil {
		return err
	}
	m.transport.Start()
	m.phases = newPhases(m.transport.GRPCListener())
	m.tasks.Go(func() { m.phases.pump(m.ctx.Done()) })
	return nil
}

var errStarting = errors.New("the node is starting")

// featureLevel is the lowest that this build runs at, which is what nodes speak
// that do not know their cluster's; format is its storage format.
const (
	featureLevel = meta.FeatureFirst
	format       = storage.StateFormat
)

// newServer makes a server of the peers' calls.
func (m *Member) newServer() *grpc.Server {
	return grpc.NewServer(slices.Concat(m.cfg.ServerOptions, []grpc.ServerOption{grpc.Creds(greeted{})})...)
}

// serveEarly answers nodes that have no cluster yet: see found.go.
func (m *Member) serveEarly() {
	m.early = m.newServer()
	peerv1.RegisterPeerServer(m.early, &service{m: m})
	l := m.phases.next()
	m.tasks.Go(func() { _ = m.early.Serve(l) }) // ends when the node serves, or stops
}

// serve answers the peers' calls. Connections that came before wait.
func (m *Member) serve(p *Parts) {
	if m.early != nil {
		m.early.Stop()
	}
	m.server = m.newServer()
	peerv1.RegisterPeerServer(m.server, &service{m: m})
	p.Services(m.server)
	l := m.phases.next()
	m.tasks.Go(func() {
		if err := m.server.Serve(l); err != nil && m.ctx.Err() == nil {
			m.cfg.Fatal(fmt.Errorf("serve peers: %w", err))
		}
	})
}

// chat starts gossip.
func (m *Member) chat() error {
	s := m.cfg.Settings
	c := gossip.DefaultConfig()
	c.Cluster, c.KeyFile = s.ClusterName, s.GossipKeyFile
	bind, err := addrPort(s.Gossip)
	if err != nil {
		return fmt.Errorf("--gossip %s: %w", s.Gossip, err)
	}
	c.Bind = bind
	if !bind.Addr().IsLoopback() {
		c.Profile = gossip.LAN
	}
	if s.Advertise != "" {
		if c.Advertise, err = addrPort(net.JoinHostPort(s.Advertise, "0")); err != nil {
			return fmt.Errorf("--advertise %s: %w", s.Advertise, err)
		}
	}
	c.Dial = m.cfg.Dial
	if m.cfg.Gossip.IsValid() {
		c.Advertise = m.cfg.Gossip
	}
	c.Meta = m.gossipMeta()
	c.OnConflict = m.conflict
	c.Logger, c.Registerer = m.log, m.cfg.Registerer
	m.gossip, err = gossip.Start(c)
	if err != nil && m.cfg.FreeGossip && bind.Port() != 0 {
		// Who started at the same moment has taken it since it was looked at.
		c.Bind = netip.AddrPortFrom(bind.Addr(), 0)
		m.gossip, err = gossip.Start(c)
	}
	if err != nil {
		return fmt.Errorf("--gossip %s: %w", s.Gossip, err)
	}
	m.cfg.Addresses.Gossip = m.gossip.Address().String()
	return nil
}

// addrPort looks a host up, because gossip listens on an IP.
func addrPort(addr string) (netip.AddrPort, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	at := tcp.AddrPort()
	if !at.Addr().IsValid() {
		at = netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

// gossipMeta is what this node tells of itself.
func (m *Member) gossipMeta() gossip.Meta {
	s := m.cfg.Settings
	g := gossip.Meta{
		Node: m.cfg.Identity.Node, Boot: m.cfg.Identity.Boot, State: gossip.State(m.state.Load()), Level: featureLevel,
		Name: s.Name, Zone: s.Zone, Version: config.Version(),
		GRPC: m.cfg.Addresses.GRPC, HTTP: m.cfg.Addresses.HTTP, Peer: m.cfg.Addresses.Peer,
	}
	if b := m.belonging.Load(); b != nil {
		g.Cluster = b.Cluster
	} else if s.BootstrapExpect > 1 {
		g.Expect = uint16(s.BootstrapExpect)
	}
	return g
}

// SetState tells the others what this node is doing.
func (m *Member) SetState(s gossip.State) {
	m.state.Store(uint32(s))
	if err := m.gossip.UpdateMeta(m.gossipMeta()); err != nil {
		m.log.Warn("the others may not know this node's state", "state", s, "err", err)
	}
}

// Transport carries raft's messages.
func (m *Member) Transport() cluster.Transport { return m.transport }

// Headroom is what another node said last of its own, false if it was not heard of
// for a while.
func (m *Member) Headroom(n identity.NodeID) (bytes int64, ok bool) { return m.transport.Headroom(n) }

// Pool has connections to the other nodes' peer ports.
func (m *Member) Pool() *peers.Pool { return m.pool }

// Belonging is the cluster of this node, nil while it has none.
func (m *Member) Belonging() *Belonging { return m.belonging.Load() }

// Addresses are where the others reach this node.
func (m *Member) Addresses() meta.Addresses { return m.cfg.Addresses }

// GossipPort is the port on which this node's gossip listens.
func (m *Member) GossipPort() int { return m.gossip.Port() }

// Stop leaves gossip and ends everything that Open and Run began. The engine may
// still run: its messages are lost from then on. A second call does nothing.
func (m *Member) Stop(ctx context.Context) {
	m.stop.Do(func() {
		if m.gossip != nil {
			if err := m.gossip.Leave(ctx, time.Second); err != nil {
				m.log.Debug("left gossip without a word", "err", err)
			}
		}
		m.cancel()
		m.pool.Close()
		for _, s := range []*grpc.Server{m.early, m.server} {
			if s != nil {
				s.Stop()
			}
		}
		if m.gossip != nil {
			if err := m.gossip.Stop(); err != nil {
				m.log.Warn("stop gossip", "err", err)
			}
		}
		if err := m.transport.Stop(ctx); err != nil {
			m.log.Warn("stop transport", "err", err)
		}
		m.tasks.Wait()
	})
}

// resolve says on which node a replica lives.
func (m *Member) resolve(g storage.GroupID, r storage.ReplicaID) (identity.NodeID, bool) {
	p := m.parts.Load()
	if p == nil {
		return identity.NodeID{}, false
	}
	return p.Meta.View().NodeOf(g, r)
}

// gone has others lead what a node led whose process has ended.
func (m *Member) gone(n identity.NodeID) {
	m.gate.Gone(func(g storage.GroupID, r storage.ReplicaID) bool {
		at, ok := m.resolve(g, r)
		return ok && at == n
	})
}

// address is a node's peer port: gossip knows it first, meta has it for good. Who is
// there says in its hello who it is, and proves it.
func (m *Member) address(n identity.NodeID) (string, bool) {
	if m.gossip != nil {
		for _, x := range m.gossip.Members() {
			if x.Node == n && x.Peer != "" {
				return x.Peer, true
			}
		}
	}
	if p := m.parts.Load(); p != nil {
		if x, ok := p.Meta.View().Node(n); ok && x.Addresses.Peer != "" {
			return x.Addresses.Peer, true
		}
	}
	return "", false
}

// callee is address for calls, where nothing but the certificate says who is there:
// with TLS, what gossip says of the host does not count for a node that meta knows.
func (m *Member) callee(n identity.NodeID) (string, bool) {
	addr, ok := m.address(n)
	if host := m.hostOf(n); ok && m.cfg.TLS != nil && host != "" && withoutPort(addr) != host {
		x, _ := m.parts.Load().Meta.View().Node(n)
		return x.Addresses.Peer, true
	}
	return addr, ok
}

// admit refuses nodes that meta knows to be gone, or elsewhere. Who is new to this
// node's view may be newer than it.
func (m *Member) admit(h transport.Hello) error {
	if h.Format != m.cfg.Format {
		return fmt.Errorf("%w: its storage format is %d, this node's %d: update the older one", transport.ErrIncompatible, h.Format, m.cfg.Format)
	}
	p := m.parts.Load()
	if p == nil {
		return nil
	}
	if n, ok := p.Meta.View().Node(h.Node); ok && n.State == meta.NodeRemoved {
		return fmt.Errorf("%w: node %s (%s): start it on an empty --data-dir to join anew", transport.ErrRemoved, n.Name, h.Node)
	}
	return m.vouch(leafOf(h.TLS), h.Node)
}
