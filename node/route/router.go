package route

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/codec"
	"github.com/waystation/waystation/node/api"
	"github.com/waystation/waystation/node/peers"
)

// Router does what the API asks where it is to be done. Stop must be called.
type Router struct {
	cfg     Config
	cluster Cluster
	conns   *peers.Pool
	log     *slog.Logger
	metrics metrics

	relay    api.Relay    // of this node
	delivery api.Delivery // of this node

	buffers    *codec.Pool
	parcels    parcelPool
	callOption grpc.CallOption
	table      atomic.Pointer[table]
	routes     atomic.Pointer[routes]

	mu        sync.Mutex
	stopped   bool
	links     map[string]*link
	followers map[*func()]func() // told after each new table, under mu: they must not block

	stopping chan struct{}
	life     context.Context // ends with the router
	end      context.CancelFunc

	spawning sync.Mutex // guards the growth of work against Stop
	halted   bool
	work     sync.WaitGroup
}

// New returns a router over what this node has itself: relay and delivery answer
// for the partitions that it leads, and refuse others. conns is not closed.
func New(cfg Config, relay api.Relay, delivery api.Delivery, cluster Cluster, conns *peers.Pool, logger *slog.Logger, reg prometheus.Registerer) (*Router, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open router: %w", err)
	}
	buffers := codec.NewPool()
	r := &Router{
		cfg: cfg, cluster: cluster, conns: conns, log: logger, relay: relay, delivery: delivery,
		buffers: buffers, callOption: grpc.ForceCodecV2(codec.NewClient(buffers)),
		links: map[string]*link{}, followers: map[*func()]func(){}, stopping: make(chan struct{}),
	}
	if err := r.metrics.register(reg, r); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	r.life, r.end = context.WithCancel(context.Background())
	r.refresh()
	r.spawn(r.follow)
	return r, nil
}

// spawn runs f in a goroutine that Stop waits for; not once that has begun.
func (r *Router) spawn(f func()) bool {
	r.spawning.Lock()
	defer r.spawning.Unlock()
	if r.halted {
		return false
	}
	r.work.Go(f)
	return true
}

// Relay takes packets of all partitions.
func (r *Router) Relay() api.Routed { return routedRelay{r} }

// Delivery hands out packets of all partitions.
func (r *Router) Delivery() api.Delivery { return routedDelivery{r} }

// Stop ends all forwarding: what was sent and not answered is of unknown outcome.
// The API must have stopped before. A second call waits for the first.
func (r *Router) Stop(ctx context.Context) error {
	r.mu.Lock()
	if !r.stopped {
		r.stopped = true
		close(r.stopping)
		r.end()
		for id, l := range r.links {
			delete(r.links, id)
			r.retire(l)
		}
	}
	r.mu.Unlock()
	r.spawning.Lock()
	r.halted = true
	r.spawning.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.work.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop router: %w", context.Cause(ctx))
	}
}

func (r *Router) partitionOf(repo []byte) repository.PartitionID {
	return actors.PartitionOf(r.cfg.HashSeed, r.cfg.Partitions, repo)
}
