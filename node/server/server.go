package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/waystation/waystation/cluster/gossip"
	"github.com/waystation/waystation/node/api"
	"github.com/waystation/waystation/node/backup"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/member"
	"github.com/waystation/waystation/storage"
)

// Run runs a node with cfg, which must be valid, until ctx ends and the node has
// drained, or until it cannot go on: then the error says why, and what to do.
// The banner goes to stdout once the node serves, everything else to logger.
func Run(ctx context.Context, cfg config.Config, stdout io.Writer, logger *slog.Logger) error {
	return runWith(ctx, cfg, nil, stdout, logger, hooks{})
}

// runWith is Run on a file system, nil for the disk, with hooks.
func runWith(ctx context.Context, cfg config.Config, fs storage.FS, stdout io.Writer, logger *slog.Logger, h hooks) error {
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return fmt.Errorf("--data-dir %s: %w", cfg.DataDir, err)
	}
	r := &run{cfg: cfg, fs: fs, stdout: stdout, logger: logger, registry: prometheus.NewRegistry(), fatal: make(chan error, 1), hooks: h}
	if h.ReplaceAfter > 0 {
		r.cfg.ReplaceAfter = h.ReplaceAfter
	}
	if r.founder, err = openFounder(&r.cfg); err != nil {
		return err
	}
	dir, lock, err := r.founder.lock(fs, dir)
	if err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	r.cfg.DataDir = dir
	if err := backup.Interrupted(dir); err != nil {
		return errors.Join(err, lock.Close())
	}
	return errors.Join(r.run(ctx), lock.Close())
}

// run is one life of a node, within a data folder that is locked.
type run struct {
	cfg       config.Config
	fs        storage.FS // nil: the disk
	stdout    io.Writer
	logger    *slog.Logger
	registry  *prometheus.Registry
	fatal     chan error // one place
	abort     func()     // ends a start that is under way
	hooks     hooks
	health    *api.Health
	front     *front
	founder   *founder
	node      *node
	view      *clusterView
	open      *ports
	endpoints config.Endpoints
	headroom  []byte // see sizes.headroom
}

func (r *run) run(ctx context.Context) error {
	starting, abort := context.WithCancel(ctx)
	defer abort()
	r.abort = abort
	s := r.sizes()
	open, err := listen(ctx, &r.cfg, s, r.founder)
	if err != nil {
		return err
	}
	defer open.close()
	r.open = open
	r.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.health = api.NewHealth(func() error { return r.view.quorum() })
	r.front = newFront(limits(&r.cfg.Limits), s.message(), r.logger)
	r.front.openHTTP(open.http, r.pages(nil, s))
	parts, err := r.parts(open, s)
	if err != nil {
		r.front.cut()
		return err
	}
	if r.node, err = openNode(starting, parts); err != nil {
		r.front.cut()
		return r.because(err)
	}
	r.describe()
	calls := api.NewCalls(r.node.router.Relay(), r.node.router.Delivery(), r.view, r.health, limits(&r.cfg.Limits))
	r.front.open(open.grpc, api.NewGRPC(calls), r.pages(calls, s))
	r.node.member.SetState(gossip.Serving)
	r.health.Ready()
	if err := r.announce(); err != nil {
		r.front.cut()
		return errors.Join(err, r.stopNode(5*time.Second))
	}
	return r.wait(ctx)
}

// sizes divides the memory, and tells the garbage collector its part.
func (r *run) sizes() sizes {
	plan, bound := r.cfg.Memory(os.LookupEnv)
	s := sizes{memory: int64(plan)}
	if bound {
		debug.SetMemoryLimit(s.heap() + s.headroom())
	}
	// It is never touched, so that it takes addresses and no memory.
	r.headroom = make([]byte, s.headroom())
	return s
}

// fail notes the first failure after which the node must end.
func (r *run) fail(err error) {
	select {
	case r.fatal <- err:
		r.abort()
	default:
	}
}

// because prefers the failure that was reported to the one that it led to.
func (r *run) because(err error) error {
	select {
	case cause := <-r.fatal:
		return fmt.Errorf("%w (%w)", cause, err)
	default:
		return err
	}
}

// pages is what HTTP answers; without calls, that the node is starting.
func (r *run) pages(calls *api.Calls, s sizes) http.Handler {
	return api.NewHTTP(calls, api.HTTPConfig{
		Listen: r.cfg.HTTP, Health: r.health, Logger: r.logger, BodyBytes: s.bodies(),
		Metrics: promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(r.logger.Handler(), slog.LevelWarn)}),
	})
}

// parts are what the node is made from.
func (r *run) parts(open *ports, s sizes) (parts, error) {
	at, err := advertised(&r.cfg, open)
	if err != nil {
		return parts{}, err
	}
	secured, err := newPeerTLS(&r.cfg, at.Peer, r.hooks.wall(), r.logger)
	p := parts{
		fs: r.fs, cfg: &r.cfg, sizes: s, founder: r.founder, secured: secured,
		member: member.Config{
			Settings: &r.cfg, Listener: open.peer, Fatal: r.fail, Logger: r.logger, Registerer: r.registry,
			Addresses: at,
			Format:    r.hooks.Format, Wall: func() int64 { return r.hooks.wall()().UnixNano() },
			TLS: secured.config(), ServerOptions: peerOptions(limits(&r.cfg.Limits), s.message()),
		},
		logger: r.logger, reg: r.registry, fatal: r.fail, hooks: r.hooks,
		view: func(n *node) api.Cluster { return r.viewOf(n) }, peerHealth: r.peerHealth(),
	}
	if n := r.hooks.Network; n != nil {
		p.member.Addresses.Peer, p.member.Gossip, p.member.Dial = n.Peer, n.Gossip, n.Dial
	}
	return p, err
}

// describe notes what this node says of itself.
func (r *run) describe() {
	v := r.node.meta.View()
	r.endpoints = config.Endpoints{
		PID: os.Getpid(), Name: r.cfg.Name, Cluster: v.Cluster.Name, NodeID: r.node.stores.id.Node.String(), Version: config.Version(),
		DataDir: r.cfg.DataDir, StartedAt: time.Now().UTC().Truncate(time.Millisecond),
		Addresses: local(&r.cfg, r.open, r.node.member.GossipPort()),
	}
	r.view = r.viewOf(r.node)
}

func (r *run) viewOf(n *node) *clusterView {
	return &clusterView{node: n, partitions: n.relay.Partitions(), health: r.health}
}

// peerHealth is what other nodes see: it never drains, because what this node
// leads is served until it leads it no more.
func (r *run) peerHealth() *api.Health {
	h := api.NewHealth(func() error { return nil })
	h.Ready()
	return h
}

// announce writes the endpoints file and the banner.
func (r *run) announce() error {
	if err := config.WriteEndpoints(&r.endpoints); err != nil {
		return err
	}
	e, at := &r.endpoints, r.node.member.Addresses()
	_, err := fmt.Fprintf(r.stdout, `Waystation %s, PID %d
  gRPC     %s
  HTTP     http://%s
  gossip   %s, peers %s
  data     %s
  node     %s (%s)
  cluster  %s (%s), %d partitions

  curl -d hello http://%s/v1/repos/acme/api/packets
`, e.Version, e.PID, e.Addresses.GRPC, e.Addresses.HTTP, at.Gossip, at.Peer, e.DataDir, e.Name, e.NodeID,
		e.Cluster, r.node.meta.View().Cluster.ID, len(r.view.partitions), e.Addresses.HTTP)
	if err != nil {
		return fmt.Errorf("write banner: %w", err)
	}
	return nil
}

// wait blocks until the node is to end, and ends it.
func (r *run) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return r.drain()
	case err := <-r.fatal:
		return r.die(err)
	case err := <-r.front.failed:
		return r.die(err)
	}
}

// drain stops the node in order: nobody is sent here any more, others lead what
// it led, then clients are told to go on there, what is in flight is finished,
// the stores closed. Who is told first goes on at once where it is waited for.
func (r *run) drain() error {
	r.logger.Info("draining")
	begin := time.Now()
	r.health.Leave()
	r.node.member.SetState(gossip.Draining)
	// The last fifth is for what must not be cut off: the stores.
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.DrainTimeout*4/5)
	defer cancel()
	handing, done := context.WithTimeout(ctx, r.cfg.DrainTimeout/4)
	r.node.handOver(handing)
	done()
	r.logger.Info("leaderships handed over", slog.Duration("after", time.Since(begin)))
	r.health.Drain()
	r.front.drain(ctx)
	err := r.stopNode(max(r.cfg.DrainTimeout-time.Since(begin), time.Second))
	err = errors.Join(err, config.RemoveEndpoints(r.cfg.DataDir, os.Getpid()))
	r.logger.Info("stopped", slog.Duration("after", time.Since(begin)))
	return err
}

func (r *run) stopNode(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return errors.Join(r.founder.close(r.node.member), r.node.stop(ctx))
}

// die ends a node whose disk or port failed. Its parts get a moment only: some of
// them may hang on that very disk.
func (r *run) die(cause error) error {
	r.logger.Error("the node cannot go on", slog.Any("error", cause))
	r.health.Fail(cause)
	r.health.Drain()
	r.front.cut()
	if err := r.stopNode(2 * time.Second); err != nil {
		r.logger.Warn("stop after failure", slog.Any("error", err))
	}
	return errors.Join(fmt.Errorf("the node cannot go on: %w", cause), config.RemoveEndpoints(r.cfg.DataDir, os.Getpid()))
}
