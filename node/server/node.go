package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/logclock"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/internal/cadence"
	"github.com/waystation/waystation/node/api"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/copies"
	"github.com/waystation/waystation/node/member"
	"github.com/waystation/waystation/node/route"
	"github.com/waystation/waystation/storage"
)

// node is the parts behind the API.
type node struct {
	cfg      *config.Config
	logger   *slog.Logger
	stores   *stores
	clock    *logclock.Clock
	member   *member.Member
	meta     *meta.Store
	calls    *meta.Calls
	engine   *cluster.Engine
	relay    *actors.Relay
	delivery *actors.DeliveryService
	router   *route.Router
	peers    *route.Service
	spread   *spreader
	copies   *copies.Copies
	groups   *groups
	disk     *disk
	brakes   *brakes
	running  atomic.Pointer[cluster.Engine] // the engine, for the stores, which came before
	changed  chan struct{}                  // a partition is led, or meta has news
	resigned atomic.Bool                    // it is about to stop
	tending  context.CancelFunc
	tasks    sync.WaitGroup
}

// initLimit is what one try to make the cluster may take.
const initLimit = 5 * time.Second

// startLimit is how long a start may take that needs no other node.
const startLimit = time.Minute

// parts are what openNode is given.
type parts struct {
	fs      storage.FS // nil: the disk
	cfg     *config.Config
	sizes   sizes
	founder *founder
	secured *peerTLS // nil without
	member  member.Config
	logger  *slog.Logger
	reg     prometheus.Registerer
	fatal   func(error)
	hooks   hooks
	// view is the cluster for the calls of other nodes, peerHealth what they see of
	// this node: one that drains still serves them.
	view       func(*node) api.Cluster
	peerHealth *api.Health
}

// openNode makes the parts and starts them; they are ready when it returns. What
// it has opened is closed again if it fails.
func openNode(ctx context.Context, x parts) (_ *node, err error) {
	n := &node{cfg: x.cfg, logger: x.logger, changed: make(chan struct{}, 1)}
	releaseBallast(x.cfg.DataDir, int64(x.cfg.Limits.DiskReserve), x.hooks.measure(), x.logger)
	if n.disk, err = newDisk(x.cfg.DataDir, int64(x.cfg.Limits.DiskReserve), x.hooks.measure(), x.logger, x.reg); err != nil {
		return nil, errors.Join(err, x.member.Listener.Close(), x.founder.close(nil))
	}
	disks := disks{
		fs: x.fs, dir: x.cfg.DataDir, logger: x.logger, reg: x.reg, fatal: x.fatal, groups: n.ranges, damaged: n.damaged,
	}
	if n.stores, err = openStores(disks, x.sizes); err != nil {
		return nil, errors.Join(err, x.member.Listener.Close(), x.founder.close(nil))
	}
	defer func() {
		if err != nil {
			stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			err = errors.Join(err, n.stop(stop))
			err = errors.Join(err, x.founder.close(n.member))
		}
	}()
	n.clock = logclock.New(0, x.hooks.wall()) // raised below, once the partitions are read
	x.member.Headroom = n.disk.headroom
	x.member.Identity, x.member.Log = n.stores.id, n.stores.log
	x.member.Near, x.member.FreeGossip = x.founder.near(n.stores.id.Node), x.founder.home != nil && !x.cfg.Given("gossip")
	if n.member, err = member.Open(x.member); err != nil {
		return nil, err
	}
	n.clock.Follow(func() logclock.Voters {
		count, others := n.member.Clocks()
		return logclock.Voters{Count: count, Others: others}
	})
	if n.meta, err = meta.Open(n.stores.state); err != nil {
		return nil, err
	}
	if err = n.member.Alone(ctx, n.meta.View()); err != nil {
		return nil, err
	}
	b, err := x.founder.belong(ctx, n.member)
	if err != nil {
		return nil, err
	}
	if err = n.startEngine(&b, &x); err != nil {
		return nil, err
	}
	if err = n.startActors(&b, &x); err != nil {
		return nil, err
	}
	if err = n.startRouter(&b, &x); err != nil {
		return nil, err
	}
	n.copies = copies.New(copies.Config{
		Self: n.stores.id.Node, Nodes: n.member, Engine: n.engine, Meta: n.meta, Calls: n.calls, Partitions: n.relay.Partitions(),
		Damaged: n.stores.giveUp, BytesPerSecond: copies.DefaultBytesPerSecond, Logger: n.logger,
	})
	n.member.Run(member.Work{
		Services: func(s *grpc.Server) {
			n.peers = n.router.Register(s, x.view(n), x.peerHealth)
			n.copies.Register(s)
		},
		Machine: n.machine, Spread: n.spread.here, DiskFree: n.disk.free.Load,
		Resign: func() bool { return n.resigned.Load() || n.clock.Off() || n.disk.full() }, Trouble: n.trouble,
	})
	n.meta.Watch(func(*meta.View) { n.ring() })
	tending, stop := context.WithCancel(context.Background())
	n.tending = stop
	if b.Founder {
		// Beside the rest: a founder that starts again may need the others to know
		// that there is a cluster, and they need it.
		n.tasks.Go(func() { n.found(tending, &b) })
	}
	n.tasks.Go(func() { n.tend(tending, b.Founder) })
	n.startBrakes(tending, x.hooks)
	n.tasks.Go(func() { x.secured.watch(tending) })
	if err = x.founder.announce(n.member); err != nil {
		return nil, err
	}
	err = n.settle(ctx)
	n.brakes.look() // once more before the first packet: now the voters are known
	return n, err
}

// startEngine runs the meta group, and through it learns what else there is.
func (n *node) startEngine(b *member.Belonging, x *parts) (err error) {
	c := cluster.DefaultConfig()
	c.Log, c.State, c.Clock, c.Fatal = n.stores.log, n.stores.state, n.clock.NowMs, x.fatal
	c.Changed = n.member.Changed
	c.Watched = func(g storage.GroupID) bool { return g == meta.MetaGroup }
	c.Room, c.Full = n.disk.room, n.disk.full
	c.Transport, c.Logger, c.Registerer = n.member.Transport(), n.logger, x.reg
	x.sizes.engine(&c, int(b.Partitions)+1)
	if x.hooks.HoldBytes > 0 {
		c.HoldBytes = x.hooks.HoldBytes
	}
	if n.engine, err = cluster.Open(c); err != nil {
		return err
	}
	n.stores.engine.Store(n.engine)
	n.calls = meta.NewCalls(n.meta, n.engine, n.member)
	add := n.engine.JoinGroup
	if b.Founder && b.Replica == meta.FirstReplica {
		add = n.engine.AddGroup
	}
	if err := member.BuryMeta(n.stores.log, b); err != nil {
		return err
	}
	// A quarantined replica is replaced once the node runs.
	if err := add(meta.MetaGroup, b.Replica, n.meta); err != nil && !errors.Is(err, cluster.ErrQuarantined) {
		return err
	}
	n.member.Attach(n.engine, n.meta, n.calls)
	n.running.Store(n.engine)
	n.engine.Start()
	if x.hooks.Running != nil {
		x.hooks.Running(n.engine)
	}
	return nil
}

// found makes the cluster, unless that is done, and tries until it is or ctx ends.
func (n *node) found(ctx context.Context, b *member.Belonging) {
	init := meta.Init{
		Cluster: b.Cluster, Name: b.Name, Partitions: b.Partitions, HashSeed: b.HashSeed, FeatureLevel: meta.FeatureFirst, Node: n.member.Self(),
	}
	for !n.meta.View().Made() {
		limited, cancel := context.WithTimeout(ctx, initLimit)
		_, err := n.calls.Init(limited, init)
		cancel()
		if err == nil || errors.Is(err, meta.ErrMade) {
			break
		}
		n.logger.Debug("there is no cluster yet", slog.Any("error", err))
		select {
		case <-time.After(retryCommand):
		case <-ctx.Done():
			return
		}
	}
	if b.Name != n.cfg.ClusterName {
		n.logger.Warn("data folder belongs to a cluster of another name", slog.String("cluster", b.Name), slog.String("flag", n.cfg.ClusterName))
	}
	if int(b.Partitions) != n.cfg.Partitions {
		n.logger.Warn("the number of partitions is fixed when a cluster is made", slog.Int("partitions", int(b.Partitions)), slog.Int("flag", n.cfg.Partitions))
	}
}

func (n *node) startActors(b *member.Belonging, x *parts) (err error) {
	c := actors.DefaultConfig()
	c.Partitions, c.HashSeed = int(b.Partitions), b.HashSeed
	c.NotProposed, c.Damaged, c.Alone = notProposed, n.stores.giveUp, n.engine.Alone
	x.sizes.relay(&c, &n.cfg.Limits)
	if n.relay, err = actors.NewRelay(c, n.engine, n.stores.state, n.logger, x.reg); err != nil {
		return err
	}
	if err := n.raiseClock(); err != nil {
		return err
	}
	n.spread = &spreader{
		member: n.member, partitions: n.relay.Partitions(), stranded: n.stranded,
		deleted: func(id uint32) bool { return n.meta.View().GroupDeleted(id) },
	}
	n.groups = newGroups(n.calls, n.meta, n.spread, &n.cfg.Seed, n.logger)
	partitions := make([]actors.LanePartition, 0, len(n.relay.Partitions()))
	for _, p := range n.relay.Partitions() {
		partitions = append(partitions, p)
	}
	d := actors.DefaultDeliveryConfig()
	d.NowMs = n.clock.NowMs
	d.TakeBytes = answerBytes
	if n.delivery, err = actors.NewDelivery(d, partitions, n.relay.PartitionOf, n.groups, n.logger, x.reg); err != nil {
		return err
	}
	n.groups.forget = n.delivery.Forget
	n.relay.Listen(&listener{delivery: n.delivery, raise: n.clock.Raise, changed: n.changed})
	return nil
}

// startRouter has the API reach the partitions that other nodes lead.
func (n *node) startRouter(b *member.Belonging, x *parts) (err error) {
	c := route.DefaultConfig()
	c.Partitions, c.HashSeed, c.Limits = int(b.Partitions), b.HashSeed, limits(&n.cfg.Limits)
	c.ClusterID = b.Cluster.String()
	c.FrameBytes = min(c.FrameBytes, c.Limits.FrameBytes)
	view := routing{member: n.member, self: n.stores.id.Node, view: n.meta.View}
	n.router, err = route.New(c, n.relay, delivery{n.delivery}, view, n.member.Pool(), n.logger, x.reg)
	return err
}

// startBrakes watches the disks, this node's and the others', and what is kept for
// snapshots.
func (n *node) startBrakes(ctx context.Context, h hooks) {
	strain := n.engine.Strain
	if h.Strain != nil {
		strain = func(storage.GroupID) float64 { return h.Strain() }
	}
	n.brakes = &brakes{partitions: n.relay.Partitions(), voters: n.votersOf, low: n.lowOn, strain: strain}
	n.tasks.Go(func() { n.disk.watch(ctx) })
	n.tasks.Go(func() { n.brakes.watch(ctx) })
}

// votersOf are the nodes on which a group's voters lie; this one alone while it
// does not know better.
func (n *node) votersOf(g storage.GroupID) (nodes []identity.NodeID) {
	view := n.meta.View()
	for _, r := range n.engine.Status(g).Conf.Voters {
		if id, ok := view.NodeOf(g, r); ok {
			nodes = append(nodes, id)
		}
	}
	return nodes
}

// lowOn says whether a node said last that its disk is under its reserve.
func (n *node) lowOn(id identity.NodeID) bool {
	if id == n.stores.id.Node {
		return n.disk.low.Load()
	}
	left, heard := n.member.Headroom(id)
	return heard && left < 0
}

// answerBytes bounds one answer with packets, unless a single one is larger:
// gRPC clients take 4 MiB unless told otherwise.
const answerBytes = 3 * mib

// notProposed says which of the engine's errors are a definite no.
func notProposed(err error) bool {
	return errors.Is(err, cluster.ErrNotLeader) || errors.Is(err, cluster.ErrDropped) ||
		errors.Is(err, cluster.ErrStopped) || errors.Is(err, cluster.ErrNoGroup)
}

// raiseClock puts log time at or above what any partition has seen.
func (n *node) raiseClock() error {
	for _, p := range n.relay.Partitions() {
		if err := p.View(func(m *repository.Machine) error { n.clock.Raise(m.LogTime()); return nil }); err != nil {
			return fmt.Errorf("read log time of partition %d: %w", p.ID(), err)
		}
	}
	return nil
}

// ranges says where the keys of each replica lie. A store asks for it from its
// start on, when there is no engine yet.
func (n *node) ranges() []storage.GroupRange {
	if e := n.running.Load(); e != nil {
		return e.Ranges()
	}
	return nil
}

// damaged stops the replica that a damaged table belongs to.
func (n *node) damaged(d storage.Damage) {
	if e := n.running.Load(); e != nil {
		e.Damaged(d)
	}
}

// machine is the state machine of a partition's group.
func (n *node) machine(g storage.GroupID) cluster.StateMachine { return n.relay.Partitions()[g-1] }

func (n *node) ring() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// tendEvery is how often a node looks whether a partition lacks something, should
// no change have told.
const tendEvery = time.Second

// tend brings settings and groups into the partitions that this node leads, as
// leaderships and meta's groups change.
func (n *node) tend(ctx context.Context, founder bool) {
	tick := time.NewTimer(cadence.Until(time.Now(), tendEvery))
	defer tick.Stop()
	trouble := ""
	for {
		trouble = n.noteTrouble(trouble)
		limited, cancel := context.WithTimeout(ctx, startLimit)
		err := configure(limited, n.relay.Partitions(), founder, &n.cfg.Seed)
		if err == nil {
			err = n.groups.restore(limited)
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			n.logger.Warn("partitions are not set up yet", slog.Any("error", err))
		}
		tick.Reset(cadence.Until(time.Now(), tendEvery))
		select {
		case <-n.changed:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// settle waits until every partition has a leader, and those that this node leads
// their settings. Alone that takes a moment; a node of several may have to wait
// for the others.
func (n *node) settle(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	begin, said := time.Now(), time.Now()
	for {
		why := n.unsettled()
		if why == nil {
			return nil
		}
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			n.logger.Info("waiting", slog.Any("for", why), slog.Duration("since", time.Since(begin)))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("start: %w: %w", why, ctx.Err())
		}
	}
}

func (n *node) unsettled() error {
	v := n.meta.View()
	if !v.Made() {
		return errors.New("the cluster's map has not come yet")
	}
	hurt := false
	for _, p := range n.relay.Partitions() {
		err := n.engine.Status(p.Group()).Err
		if errors.Is(err, cluster.ErrQuarantined) {
			hurt = true // the others are served meanwhile
			continue
		}
		if err != nil && !errors.Is(err, cluster.ErrNoGroup) {
			return fmt.Errorf("partition %d: %w", p.ID(), err)
		}
		leader, ok := n.member.Leader(uint16(p.ID()))
		switch {
		case !ok:
			return fmt.Errorf("partition %d has no leader", p.ID())
		case leader != n.stores.id.Node:
			continue
		}
		if _, ok := p.Leading(); !ok {
			return fmt.Errorf("partition %d is not led yet", p.ID())
		}
		var have repository.Config
		_ = p.View(func(m *repository.Machine) error { have = m.Config(); return nil }) // the callback has no error
		if have.Version == 0 {
			return fmt.Errorf("partition %d has no settings yet", p.ID())
		}
	}
	for _, g := range v.Groups {
		if _, ok := n.groups.Group(g.Name); !ok && !hurt {
			return fmt.Errorf("group %s is not active yet", g.Name)
		}
	}
	return nil
}

// handOver gives the leaderships of this node to others, all at once, as far as
// there are any, and waits until that is done or ctx ends. From then on what
// comes back is passed on too.
func (n *node) handOver(ctx context.Context) {
	n.resigned.Store(true)
	n.member.Resigned()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for n.member.Heirs() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			n.logger.Warn("not all leaderships were handed over")
			return
		}
	}
}

// stop takes the parts down, from the outside in. Each is given what is left of
// ctx; the stores close last, if nothing can use them any more.
func (n *node) stop(ctx context.Context) error {
	var errs []error
	if n.tending != nil {
		n.tending()
	}
	if n.router != nil {
		errs = append(errs, n.router.Stop(ctx))
	}
	if n.delivery != nil {
		errs = append(errs, n.delivery.Stop(ctx))
	}
	if n.relay != nil {
		errs = append(errs, n.relay.Stop(ctx))
	}
	if n.member != nil {
		n.member.Stop(ctx)
	}
	if n.peers != nil {
		n.peers.Wait()
	}
	n.tasks.Wait()
	if n.engine != nil {
		if err := n.engine.Stop(ctx); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	return errors.Join(append(errs, n.stores.close())...)
}
