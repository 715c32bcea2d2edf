package cluster

import (
	"fmt"
	"runtime/debug"

	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/messages/envelope"
	"github.com/waystation/waystation/storage"
)

// worker owns the raft cores of some groups. It takes the groups that have
// input, feeds their cores, and hands on what these want done: once for all
// groups of a pass, so that one sync serves them all.
type worker struct {
	engine *Engine
	groups queue[*group]
	calls  queue[func()]

	// in is the input of the group at hand; what of it was answered is zero.
	in      input
	kept    bool // the pass before left to others what is sent for company
	appends []logItem
	applies []applyItem
}

func newWorker(e *Engine) *worker {
	return &worker{engine: e, groups: newQueue[*group](), calls: newQueue[func()]()}
}

func (w *worker) push(g *group) {
	w.list(g)
	w.groups.ring()
}

// list is push without waking the worker.
func (w *worker) list(g *group) {
	if w.groups.put(g) {
		w.engine.hold()
	}
}

// call has done called by the loop once it has handed on all that waits.
func (w *worker) call(done func()) {
	w.calls.push(done)
	w.groups.ring()
}

func (w *worker) loop() {
	for w.groups.wait(w.engine.quit) {
		calls := w.calls.take()
		groups := w.groups.take()
		for _, g := range groups {
			w.guard(g)
		}
		w.groups.recycle(groups)
		// In this order: an install begins in the log writer, and waits for what is
		// to be applied before it.
		w.engine.applier.items.push(w.applies...)
		w.engine.writer.items.push(w.appends...)
		clear(w.appends)
		clear(w.applies)
		w.appends, w.applies = w.appends[:0], w.applies[:0]
		for _, done := range calls {
			done()
		}
		w.calls.recycle(calls)
		w.passed(len(groups) > 0)
	}
}

// passed ends a pass. What is sent for company only (see Transport.Flush) goes
// once nobody is about to add to it, or with every other pass of a busy worker.
func (w *worker) passed(some bool) {
	if some && !w.engine.release() {
		if w.kept = !w.kept; w.kept {
			return
		}
		w.engine.transport.Flush()
	}
	w.kept = false
}

// guard runs a group and turns a panic, raft's way to say that its invariants
// do not hold, into the end of that replica.
func (w *worker) guard(g *group) {
	w.in = g.inbox.take()
	defer func() {
		if v := recover(); v != nil {
			g.fail(panicked(g, v))
		}
		if g.failure.Load() != nil {
			g.refuse(w.in)
			g.asked.fail(g.stopped())
			g.declined()
		}
		g.inbox.recycle(w.in)
		w.in = input{}
	}()
	if g.failure.Load() == nil {
		w.run(g)
	}
}

func (w *worker) run(g *group) {
	calm := g.calm.Load()
	if calm {
		g.core.Late(w.engine.ticker.beats(g, w.in.ticks))
	}
	w.feed(g, &w.in)
	if !calm {
		g.core.Tick(w.engine.ticker.beats(g, w.in.ticks))
	}
	if w.in.campaign {
		w.campaign(g)
	}
	w.propose(g, &w.in)
	if w.in.handover {
		w.in.transfer = g.core.Successor()
	}
	if len(w.in.changes) > 0 || w.in.transfer != 0 {
		w.change(g, &w.in)
	}
	w.read(g, &w.in)
	if w.in.truncate > 0 {
		w.truncate(g, w.in.truncate, w.in.floor)
	}
	w.drain(g, w.in.ticks > 0 && g.leads.Load() != 0)
	g.calmed()
	g.declined()
}

// panicked says why raft gave up. It has only the text of an error of the disk:
// whether that is damage is in the error itself.
func panicked(g *group, v any) error {
	err := fmt.Errorf("raft panicked: %v\n%s", v, debug.Stack())
	if fault := g.core.Fault(); fault != nil {
		err = fmt.Errorf("%w: %w", fault, err)
	}
	return err
}

// feed gives the core what happened: what was done first, so that the ready
// which follows already has its consequences.
func (w *worker) feed(g *group, in *input) {
	for _, job := range in.appended {
		g.core.Appended(job)
	}
	for _, job := range in.applied {
		g.core.Applied(job)
	}
	for _, m := range in.messages {
		if err := g.core.Step(m); err != nil {
			w.engine.cfg.Logger.Debug("message refused", "group", g.id, "type", m.GetType(), "err", err)
		}
	}
	for _, r := range in.reports {
		g.core.ReportSnapshot(r.to, r.ok)
	}
	if in.gone != 0 {
		g.core.Gone(in.gone)
	}
	for _, to := range in.lost {
		g.core.ReportUnreachable(to)
	}
	if in.snapshot != nil {
		w.snapshot(g, in.snapshot)
		in.snapshot = nil
	}
}

func (w *worker) campaign(g *group) {
	if err := g.core.Campaign(); err != nil {
		w.engine.cfg.Logger.Debug("cannot campaign", "group", g.id, "err", err)
	}
}

// propose hands proposals to raft.
func (w *worker) propose(g *group, in *input) {
	for i, p := range in.proposals {
		in.proposals[i] = proposal{}
		w.proposeOne(g, p)
	}
}

// proposeOne has the waiter there before raft knows of the entry, and takes it
// away again if raft does not want it.
func (w *worker) proposeOne(g *group, p proposal) {
	if len(p.data) < envelope.Size {
		p.done(nil, fmt.Errorf("propose %d bytes: %w", len(p.data), envelope.ErrShort))
		return
	}
	g.proposals++
	e := envelope.Envelope{
		Version: envelope.Version1, Kind: p.data[1],
		Term: p.term, Proposal: g.proposals, TimeMs: w.engine.cfg.Clock(),
	}
	e.Put(p.data)
	if !g.waiters.add(waiter{term: e.Term, proposal: e.Proposal, done: p.done}) {
		p.done(nil, g.stopped())
		return
	}
	if err := g.core.Propose(p.term, p.data); err != nil {
		if done := g.waiters.take(e.Term, e.Proposal); done != nil {
			done(nil, err)
		}
		return
	}
	w.engine.metrics.proposals.Inc()
}

func (w *worker) read(g *group, in *input) {
	if len(in.reads) == 0 {
		return
	}
	id := g.asked.begin(in.reads)
	clear(in.reads)
	if err := g.core.ReadIndex(id); err != nil {
		for _, done := range g.asked.end(id) {
			done(0, err)
		}
	}
}

func (w *worker) truncate(g *group, upTo, floor uint64) {
	job, ok, err := g.core.Truncate(upTo, floor)
	switch {
	case err != nil:
		g.fail(err)
	case ok:
		g.extent.cut(job.To.Index)
		w.appends = append(w.appends, logItem{group: g, truncate: job.To})
		g.publish(false) // no ready may follow that would
	}
}

// drain takes all that the core wants done. With look, what it knows of the
// other replicas is published as well.
func (w *worker) drain(g *group, look bool) {
	worked, turned := look, false
	for {
		jobs, ok := g.core.Ready()
		if !ok {
			break
		}
		worked = true
		if jobs.Change != nil {
			w.changed(g, *jobs.Change)
			look, turned = true, true
		}
		if jobs.Append != nil {
			w.append(g, jobs.Append)
		}
		if jobs.Apply != nil {
			w.applies = append(w.applies, applyItem{group: g, job: jobs.Apply})
		}
		if len(jobs.Send) > 0 {
			w.engine.transport.Send(g.id, jobs.Send)
		}
		for _, m := range jobs.Snapshots {
			g.sends.Add(1)
			w.engine.sender.wanted.push(wanted{group: g, term: m.GetTerm(), m: m})
		}
		for _, r := range jobs.Reads {
			g.confirms.add(r.Index, g.asked.end(r.ID), g.applied.Load)
		}
	}
	if worked {
		g.publish(look)
	}
	if turned && w.engine.cfg.Changed != nil {
		w.engine.cfg.Changed(g.id)
	}
}

func (w *worker) append(g *group, job *replica.AppendJob) {
	it := logItem{group: g, job: job}
	if job.Install != nil {
		if g.incoming == nil || replica.InstallOf(g.incoming.m.GetSnapshot()).To != job.Install.To {
			panic(fmt.Sprintf("raft installs a snapshot of %d that is not staged", job.Install.To.Index))
		}
		it.incoming, g.incoming = g.incoming, nil
	}
	w.appends = append(w.appends, it)
}

// changed answers what an ended leadership leaves behind. The new one is
// published before its first entry can be applied.
func (w *worker) changed(g *group, c replica.Change) {
	leads, cache := uint64(0), w.engine.cfg.FollowerCacheBytes
	if c.Leads {
		leads, cache = c.Term, w.engine.cfg.CacheBytes
	}
	g.cache.Limit(cache)
	if old := g.leads.Swap(leads); old != leads && old != 0 {
		w.engine.applier.lost(g, old)
	}
	g.waiters.fail(c.Term, ErrUnknown)
	if leads == 0 {
		g.waiters.fail(0, ErrUnknown)
	}
	g.asked.fail(ErrNotLeader)
	// With a line for each group, nobody would see what happens: who owns the engine
	// sums it up.
	w.engine.cfg.Logger.Debug("raft changed", "group", g.id, "term", c.Term, "leader", c.Leader, "leads", c.Leads)
}

// publish shows the core's state to others; what it knows of the other
// replicas only now and then.
func (g *group) publish(look bool) {
	p := &published{Status: g.core.Status()}
	switch {
	case !p.Leads || p.Alone:
	case look:
		p.progress = g.core.Progress()
	default:
		p.progress = g.status.Load().progress
	}
	g.status.Store(p)
}

// logItem is what the log writer gets: an append, or a truncation, or what
// stage adds to a batch that is then synced.
type logItem struct {
	group    *group
	job      *replica.AppendJob
	truncate storage.Position
	stage    func(*storage.LogBatch)
	done     func()
	incoming *incoming // of a job that installs a snapshot
	release  bool      // the group's install is over
}

// applyItem is a run of committed entries.
type applyItem struct {
	group *group
	job   *replica.ApplyJob
}
