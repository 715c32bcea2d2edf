// Package drive puts the load on: it publishes, works off, reads back and does
// faults, and feeds the verifier what it sees.
package drive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/history"
	"github.com/waystation/waystation/loadtest/options"
	"github.com/waystation/waystation/loadtest/report"
	"github.com/waystation/waystation/loadtest/verify"
	"github.com/waystation/waystation/loadtest/workload"
)

// Config is what a run needs.
type Config struct {
	Options options.Options
	Stream  workload.Stream
	// Targets are the nodes' gRPC addresses.
	Targets string
	// Fleet are the run's own nodes, or nil.
	Fleet Fleet
	// Progress gets a line a second; Live rewrites it in place.
	Progress io.Writer
	Live     bool
}

// Result is what a run saw.
type Result struct {
	Totals  verify.Totals
	Figures report.Figures
	// Scenario is what was found out about one, nil without.
	Scenario *report.Scenario
	// Notes are remarks for people: faults that were done, resends that were refused.
	Notes []string
}

// Run puts the load on and returns what was seen. It errs when the run could
// not be carried out; broken promises are no error but in the result.
func Run(ctx context.Context, cfg Config) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, err := newRun(ctx, cancel, cfg)
	if err != nil {
		return Result{}, err
	}
	defer r.close()
	err = r.carryOut(ctx)
	if cause := context.Cause(ctx); cause != nil {
		// What failed first is the reason for all that failed after it.
		err = cause
	}
	if err != nil {
		return Result{}, err
	}
	return r.result()
}

// run is one run with its parts.
type run struct {
	cfg      Config
	o        *options.Options
	fail     context.CancelCauseFunc
	verifier *verify.Verifier
	names    *names
	clock    clock

	sending, working *client.Client
	direct           *direct
	publisher        *publisher
	resends          *resendQueue
	resend           func(context.Context) error
	worker           *worker
	readback         *readback
	faults           *faults
	outages          *outages
	history          *history.Recorder
	asker            *asker
	screen           *screen
	gap              *report.Gap
	phase            atomic.Pointer[string]
	// scenario is what was asked for by name, nil if nothing; mortals are its workers, if
	// they are to die.
	scenario scenario
	mortals  *mortals

	// partitionOf is each repository's partition, nil when the relay does not tell.
	partitionOf []int

	// background are the goroutines that end with the run's context.
	background sync.WaitGroup
	figures    report.Figures
	// longer is how long the load went on after its time, for the stages' sake.
	longer time.Duration
	// confirmed counts packets whose settlement was accepted without an answer.
	confirmed int
	// missing describes lost packets, a few.
	missing []string
}

// maxInFlight bounds the contents that wait for receipts, in bytes.
const maxInFlight = 256 << 20

// maxRun is longer than any run.
const maxRun = 24 * time.Hour

// workDepth is how many windows of acknowledged packets may wait for the
// workers before a closed loop waits for them.
const workDepth = 4

func newRun(ctx context.Context, fail context.CancelCauseFunc, cfg Config) (_ *run, err error) {
	o := &cfg.Options
	r := &run{cfg: cfg, o: o, fail: fail, names: newNames(cfg.Stream.Repos()), gap: &report.Gap{}}
	r.screen = &screen{w: cfg.Progress, live: cfg.Live}
	r.verifier = verify.New(len(r.names.repos))
	r.figures.Seed = o.Seed
	r.enter("connecting")
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if err := r.dial(ctx); err != nil {
		return nil, err
	}
	r.clock = clock{begin: time.Now()}
	window := o.Window
	if o.Workload == options.Synthetic {
		window = min(window, max(8, maxInFlight/max(1, o.Size)))
	}
	begin, end := o.Warmup, o.Warmup+o.Duration
	until := end
	if o.Staged() {
		until = maxRun // the load lasts until the nodes are as they were asked to be
	}
	r.publisher = &publisher{
		sender: r.sending, stream: cfg.Stream, verifier: r.verifier, names: r.names, clock: r.clock,
		rate: o.Rate, withID: o.IDs == options.ByID, before: o.Resend / 2, after: o.Resend / 2, random: rand.New(rand.NewPCG(o.Seed, 3)),
		ack: &meter{latency: report.NewLatency(), begin: begin, end: until}, gap: r.gap,
		slots: slots{window: window},
	}
	r.newResends(window)
	r.worker.verifier, r.worker.clock = r.verifier, r.clock
	r.worker.delivery = &meter{latency: report.NewLatency(), begin: begin, end: until}
	r.readback = &readback{reader: r.sending, verifier: r.verifier, names: r.names}
	if o.Work {
		r.publisher.backlog = int64(workDepth * window)
	}
	r.history = history.New(len(r.names.repos), sampleRepos(len(r.names.repos), o.Seed))
	r.publisher.history = r.history
	r.asker = &asker{asker: r.sending, history: r.history, names: r.names, clock: r.clock}
	r.outages = newOutages(len(r.names.repos), r.partitionOf, r.happened)
	r.publisher.outages = r.outages
	if cfg.Fleet != nil {
		r.faults = &faults{fleet: cfg.Fleet, outages: r.outages, now: r.clock.now, warmup: begin, duration: end}
	}
	r.scenario = newScenario(r)
	return r, nil
}

// dial connects. The producer has a name of its own so that resends know the
// positions that the client gives out.
func (r *run) dial(ctx context.Context) (err error) {
	if r.direct, err = dialDirect(r.cfg.Targets); err != nil {
		return err
	}
	r.worker = &worker{names: r.names, probe: &probe{direct: r.direct, group: r.names.group}}
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, fmt.Errorf("no answer within %v", connectTimeout))
	defer cancel()
	// The slots bound what is in flight, resends included: the client never has to.
	r.sending, err = client.Dial(ctx, r.cfg.Targets, client.WithConnections(r.o.Connections),
		client.WithWindow(2*r.o.Window), client.WithWindowBytes(2*maxInFlight), client.WithProducer(r.names.producer()))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if r.o.Work {
		r.working, err = client.Dial(ctx, r.cfg.Targets, client.WithConnections(min(r.o.Workers, r.o.Connections)),
			client.WithObserver(client.Observer{OnSettled: r.worker.settled}))
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
	}
	cluster, err := r.sending.Cluster(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	r.figures.Nodes, r.figures.Partitions = len(cluster.Nodes), len(cluster.Partitions)
	r.partitionOf = partitionsOf(r.names.repos, cluster)
	return nil
}

const connectTimeout = 5 * time.Second

func (r *run) newResends(window int) {
	r.resends = newResendQueue(window)
	if r.o.IDs == options.ByID {
		b := &byID{resendQueue: r.resends, sender: r.sending}
		r.publisher.resends, r.resend = b, b.run
		return
	}
	b := &byPosition{resendQueue: r.resends, direct: r.direct, producer: r.names.producer()}
	r.publisher.resends, r.resend = b, b.run
}

// close ends what newRun began. Everything that uses it has ended before.
func (r *run) close() {
	r.fail(nil)
	r.background.Wait()
	for _, c := range []*client.Client{r.sending, r.working} {
		if c != nil {
			_ = c.Close()
		}
	}
	if r.direct != nil {
		r.direct.close()
	}
}

func (r *run) enter(phase string) { r.phase.Store(&phase) }

// spawn runs do in the background; its error ends the run.
func (r *run) spawn(wg *sync.WaitGroup, do func() error) {
	wg.Go(func() {
		if err := do(); err != nil {
			r.fail(err)
		}
	})
}

// carryOut goes through the phases.
func (r *run) carryOut(ctx context.Context) error {
	r.spawn(&r.background, func() error { return r.progress(ctx) })
	if r.cfg.Fleet != nil {
		r.spawn(&r.background, func() error {
			select {
			case err := <-r.cfg.Fleet.Died():
				return err
			case <-ctx.Done():
				return nil
			}
		})
	}
	if b, ok := r.scenario.(*backlog); ok {
		return b.run(ctx)
	}
	stopWorkers := r.startWorkers(ctx)
	r.load(ctx)
	r.flush(ctx)
	var err error
	if r.o.Work {
		err = r.drain(ctx)
		stopWorkers()
	} else {
		r.enter("reading back")
		err = r.readback.run(ctx)
	}
	if err == nil {
		r.explain(ctx)
	}
	return err
}

// load publishes, through warm-up and measurement, while faults are done.
func (r *run) load(ctx context.Context) {
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var load sync.WaitGroup
	r.spawn(&r.background, func() error { return r.resend(ctx) })
	r.spawn(&load, func() error { return r.publisher.run(loading) })
	for i := range historyAskers {
		r.spawn(&load, func() error { return r.asker.run(loading, r.o.Seed+uint64(i)) })
	}
	if r.scenario != nil {
		r.spawn(&load, func() error { return r.scenario.happen(loading) })
	}
	var stages sync.WaitGroup
	r.startFaults(loading, ctx, &load)
	r.startStages(ctx, &stages)
	r.enter("warming up")
	sleep(ctx, r.o.Warmup-r.clock.now())
	r.enter("load")
	r.gap.Begin(r.clock.now())
	before := r.usage()
	begin, from := r.verifier.Live(), r.clock.now()
	sleep(ctx, r.o.Warmup+r.o.Duration-r.clock.now())
	r.finishStages(&stages)
	end, to := r.verifier.Live(), r.clock.now()
	r.account(before)
	r.gap.End(to)
	r.figures.Measured = to - from
	r.figures.Acked, r.figures.Settled = end.Acked-begin.Acked, end.Settled-begin.Settled
	stop()
	load.Wait()
}

// startFaults has happen to the nodes what was asked for, while there is load.
func (r *run) startFaults(loading, life context.Context, load *sync.WaitGroup) {
	if r.faults == nil {
		return
	}
	for _, fault := range r.o.Faults {
		r.spawn(load, func() error { return r.faults.run(loading, life, fault) })
	}
}

// startStages has the nodes go through what was asked for once, from the first to
// the last: under load, and to its end, however long that takes.
func (r *run) startStages(ctx context.Context, stages *sync.WaitGroup) {
	if r.faults == nil {
		return
	}
	if r.o.RollingRestart {
		r.spawn(stages, func() error { return r.faults.roll(ctx) })
	}
	if len(r.o.Grow) > 0 {
		r.spawn(stages, func() error { return r.faults.resize(ctx, r.o.Grow) })
	}
}

// finishStages waits for them: a run that ended in between would have shown less
// than it was asked for, and not said so.
func (r *run) finishStages(stages *sync.WaitGroup) {
	if !r.o.Staged() {
		return
	}
	r.enter("load, until the nodes are as asked")
	begin := r.clock.now()
	stages.Wait()
	r.longer = r.clock.now() - begin
}

// flush waits for what is in flight. What has no receipt after it counts as unknown.
func (r *run) flush(ctx context.Context) {
	r.enter("flushing")
	ctx, cancel := context.WithTimeout(ctx, max(r.o.Drain, time.Second))
	defer cancel()
	// Receipts release the last packets to the resends, which for ids go through the client again.
	if err := r.sending.Flush(ctx); err == nil {
		r.resends.settle(ctx)
	}
}

// usage is what the nodes have taken so far, nil of targets.
func (r *run) usage() *report.Usage {
	if r.cfg.Fleet == nil {
		return nil
	}
	u := r.cfg.Fleet.Usage()
	return &u
}

// account takes what the nodes took since an earlier look: for the load that is measured, and neither
// for their start, the warm-up nor the reading back.
func (r *run) account(before *report.Usage) {
	if now := r.usage(); now != nil && before != nil {
		spent := now.Since(*before)
		r.figures.Usage = &spent
	}
}

// errNothing says that a run tells nothing.
var errNothing = errors.New("no packet was acknowledged")

func (r *run) result() (Result, error) {
	t := r.verifier.Totals(r.o.Work)
	if t.Acked == 0 {
		if err := r.publisher.lastErr.Load(); err != nil {
			return Result{}, fmt.Errorf("%w: %w", errNothing, *err)
		}
		return Result{}, errNothing
	}
	histories := r.history.Check(historyCheck, func(repo int, index uint32) uint64 { return r.verifier.Number(repo, index) })
	t.NotLinear = int64(len(histories.Broken))
	f := r.figures
	f.Ack, f.Delivery, f.Gap = r.publisher.ack.latency.Quantiles(), r.worker.delivery.latency.Quantiles(), r.gap.Longest()
	res := Result{Totals: t, Figures: f, Notes: slices.Concat(r.notes(), r.historyNotes(histories), r.missing)}
	if r.scenario != nil {
		res.Scenario = r.scenario.conclude(&res.Totals)
	}
	return res, nil
}

func (r *run) historyNotes(h history.Result) []string {
	notes := []string{h.String()}
	for _, repo := range h.Broken {
		notes = append(notes, "no order of its calls explains what was seen of "+r.names.repos[repo])
	}
	return notes
}

func (r *run) notes() (notes []string) {
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	notes = append(notes, r.outages.summary()...)
	if longer := r.longer.Round(100 * time.Millisecond); longer > 0 {
		note("the load went on for %v after --duration, until the nodes had gone through all that was asked for", longer)
	}
	if r.o.Work {
		note("old lease tokens tried: %d", r.worker.probe.tried.Load())
		if n := r.worker.refused.Load(); n > 0 {
			note("settlements that were refused: %d (%s)", n, *r.worker.lastRefusal.Load())
		}
		if r.confirmed > 0 {
			note("settlements whose answer was lost, and that the relay confirms: %d", r.confirmed)
		}
		if n := r.worker.foreign.Load(); n > 0 {
			note("packets of others that the new group was handed too: %d", n)
		}
	}
	if r.cfg.Fleet == nil {
		note("left on the target until their retention: packets under %s", r.names.prefix)
		if r.o.Work {
			note("left on the target: the group %s", r.names.group)
		}
	}
	if n := r.resends.refused.Load(); n > 0 {
		note("resends that were refused or given up: %d (%s)", n, *r.resends.lastRefusal.Load())
	}
	if err := r.publisher.lastErr.Load(); err != nil {
		note("last failed packet: %v", *err)
	}
	return notes
}
