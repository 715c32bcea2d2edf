package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/actors/repository"
)

// DeliveryConfig is what a DeliveryService needs to know.
type DeliveryConfig struct {
	// WindowLanes bounds the ready lanes that are kept in memory, for each group,
	// partition and priority.
	WindowLanes int
	// GrantBytes bounds the packets of one grant; a bigger packet makes one alone.
	GrantBytes uint32
	// TakeBytes bounds what one Take or ReadPackets returns; likewise.
	TakeBytes int
	// MaxCredit bounds the packets that one session holds.
	MaxCredit int
	// RenewEvery is the least time between two rounds in which a partition
	// confirms renewals.
	RenewEvery time.Duration
	// MaintainEvery is how often a leader looks for what has expired.
	MaintainEvery time.Duration
	// MaintainItems bounds what one entry of maintenance or backfill works on.
	MaintainItems uint32
	// SettleWait is how long a unary settlement waits for the packets before its
	// own; then it is answered UNAVAILABLE, and takes effect with them.
	SettleWait time.Duration
	// MaxWait bounds how long a Pull may wait.
	MaxWait time.Duration
	// NowMs is the log's time source in Unix milliseconds; nil: the wall clock.
	NowMs func() int64
}

// DefaultDeliveryConfig returns the contract's defaults.
func DefaultDeliveryConfig() DeliveryConfig {
	return DeliveryConfig{
		WindowLanes: 1024, GrantBytes: 4 << 20, TakeBytes: 4 << 20, MaxCredit: 16_384,
		RenewEvery: 50 * time.Millisecond, MaintainEvery: time.Second, MaintainItems: 1000,
		SettleWait: 5 * time.Second, MaxWait: time.Minute,
	}
}

// Validate joins everything that is wrong with c.
func (c *DeliveryConfig) Validate() error {
	var errs []error
	for _, v := range []struct {
		name  string
		value int
	}{
		{"window lanes", c.WindowLanes},
		{"grant bytes", int(c.GrantBytes)},
		{"take bytes", c.TakeBytes},
		{"largest credit", c.MaxCredit},
		{"renewal round", int(c.RenewEvery)},
		{"maintenance interval", int(c.MaintainEvery)},
		{"maintenance items", int(c.MaintainItems)},
		{"settle wait", int(c.SettleWait)},
		{"longest wait", int(c.MaxWait)},
	} {
		if v.value <= 0 {
			errs = append(errs, fmt.Errorf("%s: %d, must be positive", v.name, v.value))
		}
	}
	return errors.Join(errs...)
}

// GroupSource knows the cluster's consumer groups.
type GroupSource interface {
	// EnsureGroup returns the group, made if there is none, once all partitions
	// have applied it. It blocks until then.
	EnsureGroup(ctx context.Context, name string) (repository.GroupConfig, error)
	// Group returns a group that is there.
	Group(name string) (repository.GroupConfig, bool)
	// Exists says whether the cluster has a group of that name, be it active or not.
	Exists(name string) bool
}

// LanePartition is what delivery needs of a partition on this node.
type LanePartition interface {
	ID() repository.PartitionID
	View(f func(m *repository.Machine) error) error
	Settle(s *repository.Settle, done func(repository.SettleOutcome, error))
	Grant(g *repository.Grant, done func(*repository.GrantResult, error))
	Command(add func(*repository.EntryBuilder), done func(*repository.Results, error))
	Barrier(done func(error))
	Leading() (term uint64, ok bool)
	Payload(ref repository.Ref, dst []byte) ([]byte, error)
	Watch(g repository.GroupID, repo string, rank repository.Rank, seq repository.Seq) (*Watch, error)
	Unwatch(w *Watch)
}

// Delivery is one packet under a lease, as a worker gets it.
type Delivery struct {
	Repo  string
	Seq   repository.Seq
	Token repository.Token
	// Attempt counts from 1.
	Attempt uint32
	// LeaseMs is the lease's length.
	LeaseMs uint32
	// ExpiresMs is the wall-clock time until which the lease is promised.
	ExpiresMs int64
	// AcceptedMs is the log time of acceptance.
	AcceptedMs int64
	// Redelivered: an open grant that is handed to the same worker again.
	Redelivered bool
	// RedriveOf is the dead letter that it was before it was redriven; 0: none.
	RedriveOf repository.Seq
	// Packet is the packet's protobuf bytes as sent. The receiver owns them.
	Packet []byte
}

// Outcome is what a worker says of one packet.
type Outcome uint8

// The outcomes, with the values of the public enum.
const (
	OutcomeDone  Outcome = 1
	OutcomeRetry Outcome = 2
	OutcomeDead  Outcome = 3
)

// Settlement ends one delivery.
type Settlement struct {
	Repo    string
	Seq     repository.Seq
	Token   repository.Token
	Outcome Outcome
	// Error, at most 4 KiB, is kept with a retry or a dead letter.
	Error string
	// Result, at most 1 MiB, is kept with what is done. It must not be changed
	// until the settlement is answered.
	Result []byte
	// RetryAfterMs is the least delay of a retry, in milliseconds, a day at most;
	// the group's back-off counts where it is longer. 0: that alone.
	RetryAfterMs uint32
}

// SettlementOutcome answers one settlement.
type SettlementOutcome struct {
	// Index is its place in the slice that was given to Settle.
	Index int
	Repo  string
	Seq   repository.Seq
	// Refusal is why it did not take effect; nil: it did, durably.
	Refusal *Refusal
}

// LeaseRef names a lease.
type LeaseRef struct {
	Repo  string
	Token repository.Token
}

// RenewOutcome answers one renewal.
type RenewOutcome struct {
	// Index is its place in the slice that was given to Renew.
	Index int
	Repo  string
	Token repository.Token
	// ExpiresMs is the wall-clock time until which the lease is promised now.
	ExpiresMs int64
	// Refusal is why the lease was not renewed; nil: it was.
	Refusal *Refusal
}

// DeliveryService hands packets to workers on the partitions that this node
// leads: it picks runnable lanes, has them granted, keeps the leases and their
// settlements in order, and looks after what expires.
//
// It is a PartitionListener of each of its partitions. What it knows is soft: a
// new leader finds everything in the replicated state again.
type DeliveryService struct {
	cfg     DeliveryConfig
	keepers []*keeper
	hash    func(repo []byte) repository.PartitionID
	source  GroupSource
	log     *slog.Logger
	metrics deliveryMetrics
	packer  *packer
	start   time.Time // of the monotonic clock

	mu     sync.Mutex
	byID   map[repository.GroupID]*consumers
	closed bool

	deadTag atomic.Uint64

	worksets, grantOps, settleOps sync.Pool

	stopping chan struct{}
	work     sync.WaitGroup // every goroutine of the service
}

// NewDelivery makes the service for the given partitions, in the order of their
// ids; hash says which one a repository belongs to. The service must be made the
// partitions' listener before they lead.
func NewDelivery(cfg DeliveryConfig, partitions []LanePartition, hash func(repo []byte) repository.PartitionID, groups GroupSource, logger *slog.Logger, reg prometheus.Registerer) (*DeliveryService, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("validate delivery settings: %w", err)
	}
	if cfg.NowMs == nil {
		cfg.NowMs = func() int64 { return time.Now().UnixMilli() }
	}
	d := &DeliveryService{
		cfg: cfg, hash: hash, source: groups, log: logger, start: time.Now(),
		byID:     map[repository.GroupID]*consumers{},
		stopping: make(chan struct{}),
	}
	var err error
	if d.packer, err = newPacker(); err != nil {
		return nil, err
	}
	if d.metrics, err = newDeliveryMetrics(reg); err != nil {
		return nil, fmt.Errorf("register delivery metrics: %w", err)
	}
	for i, p := range partitions {
		d.keepers = append(d.keepers, newKeeper(d, p, i))
	}
	return d, nil
}

// mono is the time since the service began, on the monotonic clock: leases never
// use another one.
func (d *DeliveryService) mono() time.Duration { return time.Since(d.start) }

func (d *DeliveryService) keeper(repo string) *keeper {
	return d.keepers[int(d.hash(bytesOf(repo)))%len(d.keepers)]
}

// spawn runs f in a goroutine that Stop waits for. It answers false, and does not
// run f, once the service is stopped.
func (d *DeliveryService) spawn(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.work.Add(1)
	go func() {
		defer d.work.Done()
		f()
	}()
	return true
}

// Stop ends every session and waits for the service's goroutines. What workers
// hold stays leased: they may come back under their names, here or elsewhere.
// Stop may be called more than once.
func (d *DeliveryService) Stop(ctx context.Context) error {
	d.mu.Lock()
	if !d.closed {
		d.closed = true
		close(d.stopping)
	}
	groups := d.groups()
	d.mu.Unlock()
	for _, g := range groups {
		g.stop()
	}
	ended := make(chan struct{})
	go func() {
		d.work.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop delivery: %w", ctx.Err())
	}
}

// all lists the groups that the service knows.
func (d *DeliveryService) all() []*consumers {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.groups()
}

// groups is all for a caller that holds d.mu.
func (d *DeliveryService) groups() []*consumers {
	out := make([]*consumers, 0, len(d.byID))
	for _, g := range d.byID {
		out = append(out, g)
	}
	return out
}

// ensure returns the group, made if need be.
func (d *DeliveryService) ensure(ctx context.Context, name string) (*consumers, error) {
	if err := checkGroup(name); err != nil {
		return nil, err
	}
	cfg, err := d.source.EnsureGroup(ctx, name)
	if err != nil {
		return nil, err
	}
	g := d.consumers(cfg)
	if g == nil {
		return nil, refusedStopping
	}
	return g, nil
}

// known returns a group that is there.
func (d *DeliveryService) known(name string) (*consumers, error) {
	if err := checkGroup(name); err != nil {
		return nil, err
	}
	cfg, ok := d.source.Group(name)
	if !ok {
		return nil, &Refusal{Code: CodeNotFound, Field: "group", Message: "there is no such group"}
	}
	g := d.consumers(cfg)
	if g == nil {
		return nil, refusedStopping
	}
	return g, nil
}

// consumers returns the group's sessions; nil once the service is stopped.
func (d *DeliveryService) consumers(cfg repository.GroupConfig) *consumers {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	g := d.byID[cfg.ID]
	if g == nil {
		g = newConsumers(d, cfg)
		d.byID[cfg.ID] = g
	}
	if old := g.cfg.Load(); old.Version < cfg.Version {
		g.cfg.Store(&cfg)
	}
	return g
}

// Forget ends the sessions of a group that was deleted. What they hold is refused as
// stale.
func (d *DeliveryService) Forget(id repository.GroupID) {
	d.mu.Lock()
	g := d.byID[id]
	delete(d.byID, id)
	d.mu.Unlock()
	if g == nil {
		return
	}
	for _, k := range d.keepers {
		k.mu.Lock()
		if w := k.windows[id]; w != nil {
			k.shut(w)
		}
		k.mu.Unlock()
	}
	g.end(refusedDeleted)
}

// LeaderStarted is called when this node leads a partition from now on. It does
// not block.
func (d *DeliveryService) LeaderStarted(p *Partition, term uint64) {
	d.keepers[p.ID()].lead(term)
}

// LeaderStopped is called when this node leads a partition no more. It does not
// block.
func (d *DeliveryService) LeaderStopped(p *Partition, term uint64) {
	d.keepers[p.ID()].yield(term)
}

// Lanes is called with the lanes that turned runnable. It keeps nothing of
// events but their repositories' names, and does not block.
func (d *DeliveryService) Lanes(p *Partition, events []repository.LaneEvent) {
	d.keepers[p.ID()].events(events)
}
