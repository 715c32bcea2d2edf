package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
	"github.com/waystation/waystation/node/api"
	"github.com/waystation/waystation/node/peers"
	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/memstore"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// node is one node's relay and delivery, and its router over them.
type node struct {
	at       int
	addr     string
	gone     bool // guarded by world.mu
	relay    *actors.Relay
	delivery *actors.DeliveryService
	router   *Router
	pool     *peers.Pool
	server   *grpc.Server
	service  *Service
	seen     *seen
	halt     sync.Once
}

// local is a delivery service as the API wants it.
type local struct{ *actors.DeliveryService }

// Open implements api.Delivery.
func (d local) Open(ctx context.Context, cfg actors.SessionConfig) (api.Session, error) {
	s, err := d.DeliveryService.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// trio is three nodes.
type trio struct {
	t      testing.TB
	w      *world
	nodes  []*node
	groups *groups
}

const testPartitions = 6

// settings are what a test may change.
type settings struct {
	route    Config
	relay    actors.Config
	delivery actors.DeliveryConfig
}

// newTrio starts three nodes; partition i is led by node i modulo 3.
func newTrio(t testing.TB, change func(*settings)) *trio {
	t.Helper()
	set := settings{DefaultConfig(), actors.DefaultConfig(), actors.DefaultDeliveryConfig()}
	set.route.Partitions, set.relay.Partitions = testPartitions, testPartitions
	set.relay.NotProposed = func(err error) bool { return errors.Is(err, errDropped) }
	if change != nil {
		change(&set)
	}
	c := &trio{t: t, w: newWorld(testPartitions)}
	c.groups = &groups{w: c.w, byName: map[string]repository.GroupConfig{}}
	for i := range 3 {
		c.nodes = append(c.nodes, c.start(i, &set))
	}
	c.w.nodes = c.nodes
	go c.w.run()
	for _, n := range c.nodes {
		c.open(n, &set)
	}
	t.Cleanup(c.close)
	for i := range testPartitions {
		c.w.lead(repository.PartitionID(i), i%3)
	}
	c.settled()
	return c
}

func (c *trio) start(at int, set *settings) *node {
	c.t.Helper()
	n := &node{at: at, seen: &seen{w: c.w, at: at}, pool: peers.NewPool(nil)}
	logger := slog.New(slog.DiscardHandler)
	var err error
	if n.relay, err = actors.NewRelay(set.relay, proposer{c.w, at}, storage.NewState(memstore.New(), logger), logger, prometheus.NewRegistry()); err != nil {
		c.t.Fatal(err)
	}
	var list []actors.LanePartition
	for _, p := range n.relay.Partitions() {
		list = append(list, p)
	}
	if n.delivery, err = actors.NewDelivery(set.delivery, list, n.relay.PartitionOf, c.groups, logger, prometheus.NewRegistry()); err != nil {
		c.t.Fatal(err)
	}
	n.relay.Listen(n.delivery)
	return n
}

// open starts the node's router and peer port.
func (c *trio) open(n *node, set *settings) {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	c.w.mu.Lock()
	n.addr = l.Addr().String()
	c.w.mu.Unlock()
	n.router, err = New(set.route, n.relay, local{n.delivery}, n.seen, n.pool, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		c.t.Fatal(err)
	}
	n.server = grpc.NewServer(ServerOptions(set.route.Limits)...)
	health := api.NewHealth(func() error { return nil })
	health.Ready()
	n.service = n.router.Register(n.server, nil, health)
	go func() { _ = n.server.Serve(l) }()
}

// settled waits until each partition's leader serves, and all routers know it.
func (c *trio) settled() {
	c.t.Helper()
	for i := range testPartitions {
		p := repository.PartitionID(i)
		c.w.mu.Lock()
		at := c.w.logs[storage.GroupID(p)+1].leader
		c.w.mu.Unlock()
		if at < 0 {
			continue
		}
		await(c.t, "leader", func() bool { _, ok := c.nodes[at].relay.Partition(p).Leading(); return ok })
		for _, n := range c.nodes {
			if n.gone {
				continue
			}
			await(c.t, "routers to know the leader", func() bool {
				to := n.router.table.Load().targets[p]
				return to.ok && to.node == nodeName(at)
			})
		}
	}
}

// crash cuts a node's peer port off. Its partitions need other leaders.
func (c *trio) crash(at int) {
	n := c.nodes[at]
	c.w.mu.Lock()
	n.gone = true
	c.w.tell()
	c.w.mu.Unlock()
	n.stopServing()
}

func (n *node) stopServing() {
	n.halt.Do(func() {
		n.server.Stop()
		n.service.Wait()
	})
}

func (c *trio) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i := range testPartitions {
		c.w.hold(repository.PartitionID(i), false)
	}
	for _, n := range c.nodes {
		if err := n.router.Stop(ctx); err != nil {
			c.t.Error(err)
		}
	}
	for _, n := range c.nodes {
		n.pool.Close()
		n.stopServing()
		if err := n.delivery.Stop(ctx); err != nil {
			c.t.Error(err)
		}
	}
	for _, n := range c.nodes {
		if err := n.relay.Stop(ctx); err != nil {
			c.t.Error(err)
		}
	}
	c.w.stop()
}

// EnsureGroup implements actors.GroupSource.
func (g *groups) EnsureGroup(ctx context.Context, name string) (repository.GroupConfig, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c, ok := g.byName[name]; ok {
		return c, nil
	}
	c := repository.DefaultGroupConfig(name)
	c.ID = repository.GroupID(len(g.byName) + 1)
	for i := range testPartitions {
		if err := g.w.command(ctx, repository.PartitionID(i), func(b *repository.EntryBuilder) { b.AddSetGroup(&c) }); err != nil {
			return c, err
		}
	}
	g.byName[name] = c
	return c, nil
}

// Group implements actors.GroupSource.
func (g *groups) Group(name string) (repository.GroupConfig, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c, ok := g.byName[name]
	return c, ok
}

// Exists implements actors.GroupSource.
func (g *groups) Exists(string) bool { return true }

// command has a partition's leader apply a command, whoever that is.
func (w *world) command(ctx context.Context, p repository.PartitionID, add func(*repository.EntryBuilder)) error {
	for {
		w.mu.Lock()
		at := w.logs[storage.GroupID(p)+1].leader
		w.mu.Unlock()
		err := errDropped
		if at >= 0 {
			done := make(chan error, 1)
			w.nodes[at].relay.Partition(p).Command(add, func(_ *repository.Results, err error) { done <- err })
			err = <-done
		}
		if err == nil {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// await waits until cond holds.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("gave up waiting for: %s", what)
		}
	}
}

// repoIn is a repository of a partition: the nth.
func (c *trio) repoIn(p, nth int) string {
	for i := 0; ; i++ {
		repo := fmt.Sprintf("repo-%d", i)
		if int(c.nodes[0].relay.PartitionOf([]byte(repo))) == p {
			if nth == 0 {
				return repo
			}
			nth--
		}
	}
}

// sink keeps the answers of one stream.
type sink struct {
	t   testing.TB
	mu  sync.Mutex
	got map[uint64]answer
}

type answer struct {
	seq       repository.Seq
	duplicate bool
	repo, id  string
	refusal   *actors.Refusal
}

func (a answer) code() string {
	if a.refusal == nil {
		return "OK"
	}
	return a.refusal.Code
}

func newSink(t testing.TB) *sink { return &sink{t: t, got: map[uint64]answer{}} }

// Results implements actors.Sink.
func (s *sink) Results(rs []actors.PublishResult) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range rs {
		r := &rs[i]
		if _, twice := s.got[r.Index]; twice {
			s.t.Errorf("packet %d answered twice", r.Index)
		}
		s.got[r.Index] = answer{r.Seq, r.Duplicate, string(r.Repo), string(r.ID), r.Refusal}
	}
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func (s *sink) await(index uint64) answer {
	s.t.Helper()
	var a answer
	await(s.t, fmt.Sprintf("answer to packet %d", index), func() (ok bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		a, ok = s.got[index]
		return ok
	})
	return a
}

// offer offers packets as one frame to a node; released says whether it was let go.
func (n *node) offer(s *sink, first uint64, fields ...wire.PacketFields) (released func() bool) {
	var mu sync.Mutex
	times := 0
	f := &actors.Frame{First: first, Release: func() {
		mu.Lock()
		defer mu.Unlock()
		times++
	}}
	for i := range fields {
		var p wire.Packet
		_ = p.Parse(wire.AppendPacket(nil, &fields[i])) // Validate says it again
		f.Packets = append(f.Packets, p)
	}
	n.router.Relay().Offer(f, s)
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		if times > 1 {
			s.t.Errorf("frame released %d times", times)
		}
		return times == 1
	}
}

// publish offers packets to a node and waits for the answers, in order.
func (n *node) publish(t testing.TB, fields ...wire.PacketFields) []answer {
	t.Helper()
	s := newSink(t)
	released := n.offer(s, 100, fields...)
	out := make([]answer, len(fields))
	for i := range fields {
		out[i] = s.await(100 + uint64(i))
	}
	await(t, "release of the frame", released)
	return out
}
