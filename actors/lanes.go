package actors

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/waystation/waystation/actors/lease"
	"github.com/waystation/waystation/actors/repository"
)

// maxLanesPerRound bounds the lanes that a session takes from the windows at
// once, so that one with much credit does not take every lane before the others
// have looked.
const maxLanesPerRound = 64

// How long a lane rests, in milliseconds: one that the core called not ready
// though this node's clock says it is, because the log's time runs a little
// behind; and one whose grant was not decided at all.
const (
	clockSlackMs  = 5
	refusedRestMs = 20
)

// consumers is one group's sessions on this node, and its windows of runnable
// lanes in the partitions that the node leads.
type consumers struct {
	d       *DeliveryService
	id      repository.GroupID
	cfg     atomic.Pointer[repository.GroupConfig]
	windows []atomic.Pointer[laneWindow] // by partition; nil: not led, or not looked at
	ready   atomic.Int64                 // lanes in all windows
	usedMs  atomic.Int64                 // when a session was last there, on the monotonic clock

	delivered *durations // from acceptance to the worker
	processed *durations // from there to its settlement

	mu       sync.Mutex
	sessions map[string]*session
	hungry   []*session // with credit and without a lane, longest first
	stopped  bool
}

func newConsumers(d *DeliveryService, cfg repository.GroupConfig) *consumers {
	g := &consumers{
		d: d, id: cfg.ID, windows: make([]atomic.Pointer[laneWindow], len(d.keepers)), sessions: map[string]*session{},
		delivered: d.metrics.delivery.of(cfg.Name), processed: d.metrics.process.of(cfg.Name),
	}
	g.cfg.Store(&cfg)
	return g
}

// stop ends every session's handle.
func (g *consumers) stop() { g.end(refusedStopping) }

func (g *consumers) end(why *Refusal) {
	g.mu.Lock()
	g.stopped = true
	list := make([]*session, 0, len(g.sessions))
	for _, s := range g.sessions {
		list = append(list, s)
	}
	g.mu.Unlock()
	for _, s := range list {
		s.detach(nil, why)
	}
}

// over says that the group was deleted, or the service is stopped.
func (g *consumers) over() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stopped
}

// wake lets up to n sessions look for lanes again.
func (g *consumers) wake(n int) {
	if n <= 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	n = min(n, len(g.hungry))
	for _, s := range g.hungry[:n] {
		s.hungry = false
		s.poke()
	}
	g.hungry = slices.Delete(g.hungry, 0, n)
}

// wait puts a session behind those that wait for lanes.
func (g *consumers) wait(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !s.hungry && !g.stopped && s.attached() {
		s.hungry = true
		g.hungry = append(g.hungry, s)
	}
}

// leave takes a session off those that wait for lanes.
func (g *consumers) leave(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.hungry {
		s.hungry = false
		g.hungry = slices.DeleteFunc(g.hungry, func(x *session) bool { return x == s })
	}
}

// busy says whether anyone works for the group.
func (g *consumers) busy() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.sessions {
		if s.attached() {
			return true
		}
	}
	return false
}

// watch makes sure that the group has a window in every partition that the node
// leads.
func (g *consumers) watch() {
	g.usedMs.Store(g.d.mono().Milliseconds())
	for i, k := range g.d.keepers {
		if g.windows[i].Load() == nil {
			k.watch(g)
		}
	}
}

// warm says whether every partition had its say, once since this node leads it:
// what is not found now is not there, or comes behind other lanes of its partition.
func (g *consumers) warm() bool {
	for i, k := range g.d.keepers {
		w := g.windows[i].Load()
		if w == nil && k.leads() || w != nil && !w.warm.Load() {
			return false
		}
	}
	return true
}

// laneWindow is a group's window in one partition, guarded by the keeper's lock;
// the counts can be read without it.
type laneWindow struct {
	*lease.Window
	g           *consumers
	ready       [repository.Ranks]atomic.Int32
	total       int
	backfilling bool        // a backfill command is under way
	backfilled  bool        // one has ended
	warm        atomic.Bool // see paged
}

// wants says whether a page should be read now. While lanes are being indexed,
// their end will ask for one. The caller holds the keeper's lock.
func (w *laneWindow) wants(nowMs int64) bool { return !w.backfilling && w.WantsPage(nowMs) }

// publish brings the counts up to date and says by how many lanes it grew. The
// caller holds the keeper's lock, and wakes that many sessions once it does not.
func (w *laneWindow) publish() int {
	total := 0
	for r := range repository.Rank(repository.Ranks) {
		n := w.Ready(r)
		total += n
		w.ready[r].Store(int32(n))
	}
	grown := total - w.total
	w.total = total
	w.g.ready.Add(int64(grown))
	return grown
}

// pick is a lane that was taken from a window.
type pick struct {
	k    *keeper
	w    *laneWindow
	lane *lease.Lane
	term uint64
}

// pick takes up to want lanes, the highest priority first, the partitions in
// turn: whose turn it is goes by turn.
func (g *consumers) pick(ws *workset, turn, want int) {
	ws.picks = ws.picks[:0]
	for r := range repository.Rank(repository.Ranks) {
		if want <= len(ws.picks) || g.ready.Load() <= 0 {
			return
		}
		ws.counts = ws.counts[:0]
		for i := range g.windows {
			n := 0
			if w := g.windows[i].Load(); w != nil {
				n = int(w.ready[r].Load())
			}
			ws.counts = append(ws.counts, n)
		}
		ws.shares = lease.Plan(ws.counts, want-len(ws.picks), turn, ws.shares[:0])
		for _, sh := range ws.shares {
			g.d.keepers[sh.Partition].take(g, r, sh.Lanes, ws)
		}
	}
}

// take moves up to n ready lanes of a priority from the group's window to ws.
func (k *keeper) take(g *consumers, r repository.Rank, n int, ws *workset) {
	k.mu.Lock()
	w := k.windows[g.id]
	if w == nil || !k.serving {
		k.mu.Unlock()
		return
	}
	for range n {
		l, ok := w.Take(r)
		if !ok {
			break
		}
		ws.picks = append(ws.picks, pick{k, w, l, k.term})
	}
	w.publish()
	page := w.wants(k.d.cfg.NowMs())
	k.mu.Unlock()
	if page {
		k.poke()
	}
}

// laneFate is what becomes of a lane that was taken from a window.
type laneFate uint8

const (
	laneDropped laneFate = iota // leased, or nothing to do
	laneKept                    // still runnable
	laneDelayed                 // runnable later
)

// laneDone ends a pick. It is called from the apply loop too, in the order of the
// log: an event that comes after it must find the lane gone.
func (k *keeper) laneDone(w *laneWindow, l *lease.Lane, fate laneFate, readyMs int64) {
	k.mu.Lock()
	switch fate {
	case laneDropped:
		w.Drop(l)
	case laneKept:
		w.Put(l)
	case laneDelayed:
		w.Wait(l, readyMs)
	}
	grown := 0
	if k.windows[w.g.id] == w {
		grown = w.publish()
	}
	k.mu.Unlock()
	if fate == laneDelayed {
		k.poke()
	}
	w.g.wake(grown)
}

// events takes the lanes that an entry made runnable.
func (k *keeper) events(events []repository.LaneEvent) {
	k.mu.Lock()
	if len(k.windows) == 0 {
		k.mu.Unlock()
		return
	}
	now, delayed := k.d.cfg.NowMs(), false
	for i := range events {
		e := &events[i]
		if w := k.windows[e.Group]; w != nil {
			w.Add(e.Repo, e.Rank, e.ReadyMs, now)
			delayed = delayed || e.ReadyMs > now
		}
	}
	k.grown = k.grown[:0]
	for _, w := range k.windows {
		if n := w.publish(); n > 0 {
			k.grown = append(k.grown, growth{w.g, n})
		}
	}
	k.mu.Unlock()
	for _, x := range k.grown {
		x.g.wake(x.n)
	}
	if delayed {
		k.poke()
	}
}

type growth struct {
	g *consumers
	n int
}

// watch opens the group's window in this partition, if the node leads it.
func (k *keeper) watch(g *consumers) {
	k.mu.Lock()
	opened := k.serving && k.windows[g.id] == nil && !g.over()
	if opened {
		k.open(g)
	}
	k.mu.Unlock()
	if opened {
		k.poke()
	}
}

// open makes the group's window. The caller holds k.mu.
func (k *keeper) open(g *consumers) {
	w := &laneWindow{Window: lease.NewWindow(k.d.cfg.WindowLanes), g: g}
	k.windows[g.id] = w
	g.windows[k.at].Store(w)
}

// shut forgets the group's window. The caller holds k.mu.
func (k *keeper) shut(w *laneWindow) {
	delete(k.windows, w.g.id)
	w.g.windows[k.at].Store(nil)
	w.g.ready.Add(int64(-w.total))
	w.total = 0
}

// page reads the index until the window is full or the index ends.
func (k *keeper) page(w *laneWindow) {
	k.mu.Lock()
	w.BeginPage()
	k.mu.Unlock()
	var after []byte
	found := false
	for {
		var next []byte
		var nextMs int64
		var backfilling bool
		now := k.d.cfg.NowMs()
		err := k.p.View(func(m *repository.Machine) (err error) {
			k.lanes, next, nextMs, err = m.Runnable(w.g.id, after, now, 512, k.lanes[:0])
			backfilling = m.Backfilling(w.g.id)
			return err
		})
		if err != nil {
			k.d.log.Error("page runnable lanes", "partition", k.p.ID(), "error", err)
			next, nextMs = nil, now+1000
		}
		k.mu.Lock()
		room := true
		for i := range k.lanes {
			w.Add(k.lanes[i].Repo, k.lanes[i].Rank, 0, now)
			room = w.Ready(k.lanes[i].Rank) < k.d.cfg.WindowLanes
		}
		done := next == nil || !room
		if done { // what is not indexed yet counts as more, too
			w.EndPage(next != nil || backfilling, nextMs)
		}
		grown := 0
		if k.windows[w.g.id] == w {
			grown = w.publish()
		}
		found = found || w.total > 0 // before they are taken
		first := found && (!backfilling || w.backfilled || !w.Low())
		k.mu.Unlock()
		w.g.wake(grown)
		if done {
			if whole := next == nil && !backfilling; err == nil && (whole || first) {
				w.paged()
			}
			return
		}
		after = next
	}
}

// paged is called once the window has seen the whole index, or the first lanes of
// one that is longer or still being filled: no lane that waits for nothing stays
// unseen in a small index, and nobody waits for the end of a long one. It wakes all
// who wait for that. The lanes themselves were published before.
func (w *laneWindow) paged() {
	if !w.warm.Swap(true) {
		w.g.wake(1 << 30)
	}
}

// backfill has lanes from before the group indexed, when the window runs low.
func (k *keeper) backfill(w *laneWindow) {
	wanted := false
	err := k.p.View(func(m *repository.Machine) error {
		wanted = m.Backfilling(w.g.id)
		return nil
	})
	if err != nil || !wanted {
		return
	}
	k.mu.Lock()
	if w.backfilling || !w.Low() {
		k.mu.Unlock()
		return
	}
	w.backfilling = true
	k.mu.Unlock()
	k.p.Command(func(e *repository.EntryBuilder) { e.AddBackfill(w.g.id, k.d.cfg.MaintainItems) }, func(_ *repository.Results, err error) {
		again := k.d.cfg.NowMs() // page once more: only the end of it makes the window warm
		if err != nil {
			again += retrySoon.Milliseconds()
		}
		k.mu.Lock()
		w.backfilling, w.backfilled = false, w.backfilled || err == nil
		w.Later(again)
		k.mu.Unlock()
		k.poke()
	})
}
