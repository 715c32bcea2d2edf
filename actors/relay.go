package actors

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/partition"
	"github.com/waystation/waystation/storage"
)

// Proposer is what the relay needs of replication; the cluster's engine has it.
type Proposer interface {
	// Propose appends one entry to a group's log. The engine fills in the envelope,
	// and owns data from then on. done is called once: with what Apply returned, or
	// with an error.
	Propose(g storage.GroupID, term uint64, data []byte, done func(result any, err error))
	// ReadIndex calls done once what was committed before the call is applied here,
	// as a quorum has confirmed.
	ReadIndex(g storage.GroupID, done func(index uint64, err error))
	// ReadAt appends n bytes of an entry, from offset off, to dst; a truncated entry
	// gives storage.ErrCompacted.
	ReadAt(g storage.GroupID, index uint64, off, n int, dst []byte) ([]byte, error)
}

// Relay is the way in of one node: it takes packets from streams and answers them
// once they are durable.
type Relay struct {
	cfg        Config
	proposer   Proposer
	logger     *slog.Logger
	metrics    *metrics
	started    time.Time
	partitions []*Partition
	intake     intakeBudget
	beat       beat

	system      *actor.ActorSystem
	root        *actor.RootContext
	supervisor  *supervisor
	dispatcher  *dispatcher
	incarnation atomic.Uint64
	active      atomic.Int64
	heard       atomic.Pointer[PartitionListener]

	inbounds sync.Pool // *inbound
	turns    sync.Pool // *turn

	// onPacket, when set before the first packet, is called for each in its actor:
	// how a test makes an actor fail.
	onPacket func(repo string, p any)

	crowded  chan struct{} // more actors than there should be
	stop     sync.Once
	draining atomic.Bool
	stopping chan struct{}
	stopped  chan struct{}
	loops    sync.WaitGroup
}

// NewRelay opens the partitions from the state and starts their loops. The node
// hands each Partition to its engine; packets are refused until that has made this
// node the partition's leader. Stop must be called.
func NewRelay(cfg Config, proposer Proposer, state *storage.State, logger *slog.Logger, reg prometheus.Registerer) (*Relay, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open relay: %w", err)
	}
	r := &Relay{
		cfg: cfg, proposer: proposer, logger: logger, metrics: newMetrics(), started: time.Now(),
		crowded: make(chan struct{}, 1), stopping: make(chan struct{}), stopped: make(chan struct{}),
	}
	r.intake.init(cfg.IntakeBytes)
	r.beat.every, r.beat.shift = cfg.Beat, time.Duration(r.started.UnixNano())
	for id := range cfg.Partitions {
		p, err := newPartition(r, repository.PartitionID(id), state)
		if err != nil {
			return nil, fmt.Errorf("open relay: %w", err)
		}
		r.partitions = append(r.partitions, p)
	}
	if err := r.register(reg); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	r.supervisor, r.dispatcher = newSupervisor(r), newDispatcher()
	r.system = actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
			return slog.New(quieter{logger.Handler()}) // it has its say for each failure; ours says more
		}),
		// Each interval costs a goroutine that nobody waits for: a short one is gone
		// before the relay is.
		actor.WithDeadLetterThrottleCount(1), actor.WithDeadLetterThrottleInterval(10*time.Millisecond),
	)
	r.root = r.system.Root.Copy().WithGuardian(r.supervisor)
	for _, p := range r.partitions {
		r.loops.Add(1)
		go p.run()
	}
	r.loops.Add(1)
	go r.sweep()
	return r, nil
}

// Listen names who is told of leaderships and runnable lanes. It must be called
// before the engine starts.
func (r *Relay) Listen(l PartitionListener) { r.heard.Store(&l) }

func (r *Relay) listener() PartitionListener {
	if l := r.heard.Load(); l != nil {
		return *l
	}
	return nil
}

// Config is what the relay was made with.
func (r *Relay) Config() Config { return r.cfg }

// Partitions lists all partitions by id. The slice must not be changed.
func (r *Relay) Partitions() []*Partition { return r.partitions }

// Partition returns a partition of this node.
func (r *Relay) Partition(id repository.PartitionID) *Partition { return r.partitions[id] }

// PartitionOf is the partition that a repository belongs to.
func (r *Relay) PartitionOf(repo []byte) repository.PartitionID {
	return PartitionOf(r.cfg.HashSeed, r.cfg.Partitions, repo)
}

// PartitionOf is the range of xxHash64 with seed, of n equal ones, that repo falls
// into. It is part of the storage format.
func PartitionOf(seed uint64, n int, repo []byte) repository.PartitionID {
	return rangeOf(hashRepo(seed, repo), n)
}

func rangeOf(hash uint64, n int) repository.PartitionID {
	return repository.PartitionID(partition.At(hash, n))
}

func hashRepo(seed uint64, repo []byte) uint64 { return partition.Hash(seed, repo) }

// now is the relay's monotonic clock.
func (r *Relay) now() time.Duration { return time.Since(r.started) }

// alone says that nobody else has a group's entries.
func (r *Relay) alone(g storage.GroupID) bool { return r.cfg.Alone == nil || r.cfg.Alone(g) }

// Depths sums what waits by group name and priority, in the partitions that this
// node leads.
func (r *Relay) Depths() map[string][repository.Ranks]uint64 {
	sum := make(map[string][repository.Ranks]uint64)
	for _, p := range r.partitions {
		if _, ok := p.Leading(); !ok {
			continue
		}
		_ = p.View(func(m *repository.Machine) error { // the callback has no error
			m.Depths(func(g *repository.GroupConfig, waiting [repository.Ranks]uint64, _ uint64) {
				total := sum[g.Name]
				for i := range total {
					total[i] += waiting[i]
				}
				sum[g.Name] = total
			})
			return nil
		})
	}
	return sum
}

// Parked says whether a repository's actor kept failing and is stopped.
func (r *Relay) Parked(repo string) bool {
	return r.Partition(r.PartitionOf([]byte(repo))).actors.isParked([]byte(repo))
}

// ParkedRepositories lists them, in no order.
func (r *Relay) ParkedRepositories() (repos []string) {
	for _, p := range r.partitions {
		repos = p.actors.listParked(repos)
	}
	return repos
}

// Unpark lets a parked repository's actor start again. It answers whether it was
// parked.
func (r *Relay) Unpark(repo string) bool {
	return r.Partition(r.PartitionOf([]byte(repo))).actors.unpark(repo)
}

// residentOf finds the resident of an actor that lives.
func (r *Relay) residentOf(pid *actor.PID) *resident {
	at := strings.LastIndexByte(pid.Id, '#')
	if at < 0 {
		return nil
	}
	repo := pid.Id[:at]
	hash := hashRepo(r.cfg.HashSeed, []byte(repo))
	s := r.partitions[rangeOf(hash, len(r.partitions))].actors.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.residents[repo]; x != nil && x.pid.Id == pid.Id {
		return x
	}
	return nil
}

func (r *Relay) notProposed(err error) bool {
	return r.cfg.NotProposed != nil && r.cfg.NotProposed(err)
}

// refusalOf maps an error of the Proposer.
func (r *Relay) refusalOf(err error) *Refusal {
	if r.notProposed(err) {
		return refusedNotLeader
	}
	return refusedUnknown
}

// Stop refuses what is new, waits until what was taken in is answered or ctx ends,
// and then stops everything; whoever still waits is told that the outcome is
// unknown. It must be called before the engine stops. A second call waits for the
// first.
func (r *Relay) Stop(ctx context.Context) error {
	err := error(nil)
	r.stop.Do(func() {
		defer close(r.stopped)
		r.draining.Store(true)
		for _, p := range r.partitions {
			p.drain()
		}
		err = r.awaitDrained(ctx)
		close(r.stopping)
		for _, p := range r.partitions {
			close(p.quit)
		}
		r.loops.Wait()
		r.supervisor.close()
		r.dispatcher.close()
		r.system.Shutdown()
	})
	<-r.stopped
	return err
}

func (r *Relay) awaitDrained(ctx context.Context) error {
	for _, p := range r.partitions {
		select {
		case <-p.drained:
		case <-ctx.Done():
			return fmt.Errorf("drain relay: %w", context.Cause(ctx))
		}
	}
	return nil
}

// quieter lets warnings and errors pass.
type quieter struct{ slog.Handler }

// Enabled is false below Warn.
func (q quieter) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}

// WithAttrs keeps the threshold.
func (q quieter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quieter{q.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the threshold.
func (q quieter) WithGroup(name string) slog.Handler { return quieter{q.Handler.WithGroup(name)} }
