package server

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/logclock"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/storage"
)

// node is the parts behind the API.
type node struct {
	cfg      *config.Config
	logger   *slog.Logger
	stores   *stores
	clock    *logclock.Clock
	meta     *meta.Store
	calls    *meta.Calls
	engine   *cluster.Engine
	relay    *actors.Relay
	delivery *actors.DeliveryService
	groups   *groups
	changed  chan struct{} // a partition is led
}

// startLimit is how long a start may take until all partitions are led.
const startLimit = time.Minute

// openNode makes the parts and starts them; they are ready when it returns. What
// it has opened is closed again if it fails.
func openNode(ctx context.Context, cfg *config.Config, s sizes, logger *slog.Logger, reg prometheus.Registerer, fatal func(error)) (_ *node, err error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	n := &node{cfg: cfg, logger: logger, changed: make(chan struct{}, 1)}
	if n.stores, err = openStores(cfg.DataDir, s, logger, reg, fatal); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			err = errors.Join(err, n.stop(stop))
		}
	}()
	n.clock = logclock.New(0, time.Now) // raised below, once the partitions are read
	if n.meta, err = meta.Open(n.stores.state); err != nil {
		return nil, err
	}
	if err = n.startEngine(s, reg, fatal); err != nil {
		return nil, err
	}
	if err = n.enlist(ctx); err != nil {
		return nil, err
	}
	if err = n.startActors(s, reg); err != nil {
		return nil, err
	}
	if err = n.addPartitions(); err != nil {
		return nil, err
	}
	if err = n.settle(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

// startEngine runs the meta group, and through it learns what else there is.
func (n *node) startEngine(s sizes, reg prometheus.Registerer, fatal func(error)) (err error) {
	c := cluster.DefaultConfig()
	c.Log, c.State, c.Clock, c.Fatal = n.stores.log, n.stores.state, n.clock.NowMs, fatal
	c.Logger, c.Registerer = n.logger, reg
	s.engine(&c, n.partitionCount()+1)
	if n.engine, err = cluster.Open(c); err != nil {
		return err
	}
	replica := meta.FirstReplica
	if v := n.meta.View(); v.Made() {
		id, ok := v.ReplicaOn(meta.MetaGroup, n.stores.id.Node)
		if !ok {
			return fmt.Errorf("data folder %s: its cluster gave the meta group to another node", n.cfg.DataDir)
		}
		replica = id
	}
	if err := n.engine.AddGroup(meta.MetaGroup, replica, n.meta); err != nil {
		return err
	}
	n.engine.Start()
	n.calls = meta.NewCalls(n.meta, n.engine, nil)
	return nil
}

// partitionCount is the cluster's, or the one that it will be made with.
func (n *node) partitionCount() int {
	if v := n.meta.View(); v.Made() {
		return int(v.Cluster.Partitions)
	}
	return n.cfg.Partitions
}

// enlist makes the cluster if there is none, and records this start.
func (n *node) enlist(ctx context.Context) error {
	self := meta.Node{
		ID: n.stores.id.Node, Name: n.cfg.Name, Boot: n.stores.id.Boot, Life: n.stores.id.Life,
		Features: meta.Features{Min: 1, Max: 1},
	}
	if !n.meta.View().Made() {
		var random [24]byte
		_, _ = rand.Read(random[:]) // never fails, says its documentation
		init := meta.Init{
			Name: n.cfg.ClusterName, Partitions: uint16(n.cfg.Partitions),
			HashSeed: binary.BigEndian.Uint64(random[16:]), FeatureLevel: 1, Node: self,
		}
		copy(init.Cluster[:], random[:16])
		// A cluster that was made before and is not in the state yet says so: meta's
		// log is applied by then.
		if _, err := n.calls.Init(ctx, init); err != nil && !errors.Is(err, meta.ErrMade) {
			return err
		}
	}
	if err := n.calls.StartNode(ctx, self); err != nil {
		return err
	}
	c := n.meta.View().Cluster
	if c.Name != n.cfg.ClusterName {
		n.logger.Warn("data folder belongs to a cluster of another name", slog.String("cluster", c.Name), slog.String("flag", n.cfg.ClusterName))
	}
	if int(c.Partitions) != n.cfg.Partitions {
		n.logger.Warn("the number of partitions is fixed when a cluster is made", slog.Int("partitions", int(c.Partitions)), slog.Int("flag", n.cfg.Partitions))
	}
	return nil
}

func (n *node) startActors(s sizes, reg prometheus.Registerer) (err error) {
	v := n.meta.View()
	c := actors.DefaultConfig()
	c.Partitions, c.HashSeed = int(v.Cluster.Partitions), v.Cluster.HashSeed
	c.NotProposed = notProposed
	s.relay(&c, &n.cfg.Limits)
	if n.relay, err = actors.NewRelay(c, n.engine, n.stores.state, n.logger, reg); err != nil {
		return err
	}
	if err := n.raiseClock(); err != nil {
		return err
	}
	n.groups = newGroups(n.calls, n.meta, &n.cfg.Seed, n.logger)
	n.groups.partitions = n.relay.Partitions()
	partitions := make([]actors.LanePartition, 0, len(n.relay.Partitions()))
	for _, p := range n.relay.Partitions() {
		partitions = append(partitions, p)
	}
	d := actors.DefaultDeliveryConfig()
	d.NowMs = n.clock.NowMs
	d.TakeBytes = answerBytes
	if n.delivery, err = actors.NewDelivery(d, partitions, n.relay.PartitionOf, n.groups, n.logger, reg); err != nil {
		return err
	}
	n.relay.Listen(&listener{delivery: n.delivery, changed: n.changed})
	return nil
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

func (n *node) addPartitions() error {
	v := n.meta.View()
	for _, p := range n.relay.Partitions() {
		id, ok := v.ReplicaOn(p.Group(), n.stores.id.Node)
		if !ok {
			return fmt.Errorf("partition %d: the cluster gave it to another node", p.ID())
		}
		if err := n.engine.AddGroup(p.Group(), id, p); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until this node leads every partition, and brings settings and
// groups into those that have none.
func (n *node) settle(ctx context.Context) error {
	for {
		waiting := storage.GroupID(0)
		for _, p := range n.relay.Partitions() {
			if err := n.engine.Status(p.Group()).Err; err != nil {
				return fmt.Errorf("partition %d: %w", p.ID(), err)
			}
			if _, ok := p.Leading(); !ok {
				waiting = p.Group()
			}
		}
		if waiting == 0 {
			break
		}
		select {
		case <-n.changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for a leader of group %d: %w", waiting, ctx.Err())
		}
	}
	if err := configure(ctx, n.relay.Partitions(), &n.cfg.Seed); err != nil {
		return err
	}
	return n.groups.restore(ctx)
}

// stop takes the parts down, from the outside in. Each is given what is left of
// ctx; the stores close last, if nothing can use them any more.
func (n *node) stop(ctx context.Context) error {
	var errs []error
	if n.delivery != nil {
		errs = append(errs, n.delivery.Stop(ctx))
	}
	if n.relay != nil {
		errs = append(errs, n.relay.Stop(ctx))
	}
	if n.engine != nil {
		if err := n.engine.Stop(ctx); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	return errors.Join(append(errs, n.stores.close())...)
}
