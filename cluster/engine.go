package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/storage"
)

// Engine runs the raft groups of one node. All methods may be called at the
// same time.
type Engine struct {
	cfg       Config
	metrics   *metrics
	transport Transport
	begin     time.Time

	workers   []*worker
	writer    *logWriter
	applier   *applier
	truncator *truncator
	sender    *sender
	ticker    *ticker
	receiving chan struct{} // has one place

	groups atomic.Pointer[groupSet] // replaced whole, under mu
	// holding counts who may yet give messages to the transport: workers with
	// groups to run, and who is giving them some.
	holding atomic.Int32

	mu      sync.Mutex
	started bool
	stopped bool
	running sync.WaitGroup
	quit    chan struct{} // closed by Stop
	ended   chan struct{} // closed once everything has ended

	dying atomic.Bool
}

// groupSet is immutable.
type groupSet struct {
	byID map[storage.GroupID]*group
	list []*group
}

// Open makes an engine. It runs after Start; groups may be added before and
// after.
func Open(cfg Config) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open engine: %w", err)
	}
	e := &Engine{
		cfg: cfg, transport: cfg.Transport, begin: time.Now(),
		quit: make(chan struct{}), ended: make(chan struct{}), receiving: make(chan struct{}, 1),
	}
	e.groups.Store(&groupSet{})
	var err error
	if e.metrics, err = newMetrics(cfg.Registerer, e.quarantines, e.strains); err != nil {
		return nil, fmt.Errorf("open engine: %w", err)
	}
	if e.transport == nil {
		e.transport = noTransport{}
	}
	e.writer, e.applier, e.truncator = newLogWriter(e), newApplier(e), newTruncator(e)
	e.sender, e.ticker = newSender(e), &ticker{engine: e}
	for range cfg.Workers {
		e.workers = append(e.workers, newWorker(e))
	}
	return e, nil
}

// Start lets the engine run. A second call does nothing, nor does one after
// Stop.
func (e *Engine) Start() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.started || e.stopped {
		return
	}
	e.started = true
	loops := []func(){e.writer.loop, e.applier.loop, e.truncator.loop, e.sender.loop, e.ticker.loop}
	for _, w := range e.workers {
		loops = append(loops, w.loop)
	}
	for _, loop := range loops {
		e.running.Go(loop)
	}
}

// Stop ends the engine and waits until it has, or until ctx is done. What is
// in flight is answered with ErrUnknown, what still waits with ErrStopped. The
// state is flushed, so that the next start has nothing to apply again. The
// stores stay open; they may be closed once Stop has returned nil. It may be
// called before Start, and again.
func (e *Engine) Stop(ctx context.Context) error {
	e.mu.Lock()
	if !e.stopped {
		e.stopped = true
		close(e.quit)
		go e.end() // ends with the loops; Stop waits for it below
	}
	e.mu.Unlock()
	select {
	case <-e.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop engine: %w", ctx.Err())
	}
}

// end answers what is left once all loops have ended.
func (e *Engine) end() {
	defer close(e.ended)
	e.running.Wait()
	groups := e.list()
	e.applier.end(groups)
	e.sender.end()
	for _, g := range groups {
		g.refuse(g.inbox.close())
		g.waiters.close(ErrUnknown)
		g.asked.fail(ErrStopped)
		g.confirms.fail(ErrStopped)
	}
	e.metrics.unregister(e.cfg.Registerer)
	if e.dying.Load() {
		return
	}
	if err := e.cfg.State.Flush(); err != nil {
		// Nothing is lost: what was applied is in the log.
		e.cfg.Logger.Error("state not flushed at stop", "err", err)
	}
}

// fatal reports, once, that the log can no longer be trusted. Nothing is
// acknowledged from here on: the log writer has ended, or hangs.
func (e *Engine) fatal(err error) {
	if !e.dying.CompareAndSwap(false, true) {
		return
	}
	e.cfg.Logger.Error("engine cannot go on", "err", err)
	for _, g := range e.list() {
		g.fail(err)
	}
	e.cfg.Fatal(err)
}

// Propose appends one entry to group g, if this node leads it in term, which
// is the one given by LeaderStart. The first envelope.Size bytes of data are
// filled in by the engine, except for the kind, which is the caller's. data
// belongs to the engine until done is called; the caller may use it again after
// a result, ErrNotLeader or ErrDropped, and never again after another error.
//
// done is called exactly once, and must be short: with the result from the
// apply loop, or with an error, see the package documentation. A refusal may
// come before Propose returns, so that the caller may hold no lock that done
// takes.
func (e *Engine) Propose(g storage.GroupID, term uint64, data []byte, done func(result any, err error)) {
	gr := e.group(g)
	if gr == nil {
		done(nil, fmt.Errorf("propose to group %d: %w", g, ErrNoGroup))
		return
	}
	gr.propose(proposal{term: term, data: data, done: done})
}

// ReadIndex calls done once everything that was committed in group g at the
// time of the call is applied here, with the applied index, or with an error:
// ErrNotLeader when another replica must be asked. The quorum's round begins
// after the call; all calls that wait share one. For done the same holds as in
// Propose.
func (e *Engine) ReadIndex(g storage.GroupID, done func(index uint64, err error)) {
	gr := e.group(g)
	if gr == nil {
		done(0, fmt.Errorf("read index of group %d: %w", g, ErrNoGroup))
		return
	}
	gr.readIndex(done)
}

// ReadAt appends n bytes of an applied entry's data, from off on, to dst. An
// entry that was truncated gives storage.ErrCompacted: what still refers to it
// finds it in the spill. One that is not applied gives storage.ErrUnavailable,
// a range outside of the entry storage.ErrRange. It may read the disk.
func (e *Engine) ReadAt(g storage.GroupID, index uint64, off, n int, dst []byte) ([]byte, error) {
	gr := e.group(g)
	if gr == nil {
		return dst, fmt.Errorf("read entry of group %d: %w", g, ErrNoGroup)
	}
	if index > gr.applied.Load() {
		return dst, fmt.Errorf("read entry %d of group %d: %w", index, g, storage.ErrUnavailable)
	}
	data, ok := gr.cache.Data(index)
	if !ok {
		return e.cfg.Log.ReadAt(g, index, off, n, dst)
	}
	if off < 0 || n < 0 || off+n > len(data) {
		return dst, fmt.Errorf("read entry %d of group %d: %w", index, g, storage.ErrRange)
	}
	return append(dst, data[off:off+n]...), nil
}

// Receive takes messages of other replicas for group g. They belong to the
// engine from then on. What a busy group cannot take is dropped, as a network
// would: raft sends it again.
func (e *Engine) Receive(g storage.GroupID, messages []*pb.Message) {
	if gr := e.group(g); gr != nil {
		if e.cfg.Full != nil && e.cfg.Full() {
			messages = withoutAppends(messages)
		}
		gr.post(func(in *input) {
			room := max(0, maxMessages-len(in.messages))
			in.messages = append(in.messages, messages[:min(room, len(messages))]...)
		})
	}
}

// withoutAppends drops what would have to be written: a replica that has no room
// acknowledges nothing, and still hears its leader.
func withoutAppends(messages []*pb.Message) []*pb.Message {
	return slices.DeleteFunc(messages, func(m *pb.Message) bool { return m.GetType() == pb.MsgApp })
}

// Unreachable says that a message of group g to replica to was lost on its way. It
// does not block.
func (e *Engine) Unreachable(g storage.GroupID, to storage.ReplicaID) {
	gr := e.group(g)
	if gr == nil || gr.leads.Load() == 0 {
		return // only a leader keeps account of the others
	}
	gr.post(func(in *input) {
		if !slices.Contains(in.lost, to) && len(in.lost) < maxLost {
			in.lost = append(in.lost, to)
		}
	})
}

// Gone says that a process has ended, not only that nobody hears it; lived, that
// a replica of a group lived there. What it led is led by others as soon as they
// were told as well. It does not block.
func (e *Engine) Gone(lived func(g storage.GroupID, r storage.ReplicaID) bool) {
	for _, g := range e.list() {
		leader := g.status.Load().Leader
		if leader != 0 && leader != g.replica && lived(g.id, leader) {
			g.post(func(in *input) { in.gone = leader })
		}
	}
}

// maxLost bounds the replicas that wait to be reported: a group has few.
const maxLost = 64

func (e *Engine) group(id storage.GroupID) *group { return e.groups.Load().byID[id] }

func (e *Engine) list() []*group { return e.groups.Load().list }

// insert publishes a group; e.mu is held.
func (e *Engine) insert(g *group) {
	old := e.groups.Load()
	set := &groupSet{byID: maps.Clone(old.byID), list: append(slices.Clone(old.list), g)}
	if set.byID == nil {
		set.byID = map[storage.GroupID]*group{}
	}
	set.byID[g.id] = g
	slices.SortFunc(set.list, func(a, b *group) int { return int(a.id) - int(b.id) })
	e.groups.Store(set)
}

// hold keeps what is sent for company back until release.
func (e *Engine) hold() { e.holding.Add(1) }

// release undoes one hold, and says whether it was the last: then what was kept
// back goes.
func (e *Engine) release() bool {
	last := e.holding.Add(-1) == 0
	if last {
		e.transport.Flush()
	}
	return last
}

// now is the engine's own monotonic clock.
func (e *Engine) now() time.Duration { return time.Since(e.begin) }
