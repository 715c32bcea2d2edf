package sim

import (
	"errors"
	"log/slog"
	"reflect"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster/entrycache"
	"github.com/waystation/waystation/cluster/logclock"
	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/internal/invariant"
	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/memstore"
)

// node is what survives a crash: two stores and a clock.
type node struct {
	w     *world
	id    int
	log   *memstore.Store
	state *memstore.Store
	wall  time.Duration // by how much its clock is off
	life  *life         // nil: it is down
	disk  map[storage.GroupID]*mirror
	seats map[storage.GroupID]*seat
	// older are former contents of the log; damaged groups lost a part of it.
	older   []*memstore.Store
	damaged map[storage.GroupID]bool
}

// life is a node that runs.
type life struct {
	*node
	w      *world
	logs   *storage.Log
	states *storage.State
	groups []*group
	clock  *logclock.Core
	// writes is the log writer's queue; the first written of them are in the log's
	// memory, and wait for the sync.
	writes  []logItem
	written int
	applies []applyItem
	wanted  []wanted
	heard   map[int]clockReading // the other nodes' clocks
}

// clockReading is another node's clock, when it was last heard of.
type clockReading struct {
	wall int64
	at   time.Duration
}

// hear notes what a peer's clock shows, as the transport measures it.
func (l *life) hear(from int) {
	l.heard[from] = clockReading{l.w.nodes[from].wallNow(), l.w.now}
}

// clocks is what this node knows of the voters' clocks. What was not heard of for
// long is not known.
func (l *life) clocks() logclock.Voters {
	v := logclock.Voters{Count: l.w.set.Nodes}
	for i := 1; i < len(l.w.nodes); i++ {
		if h, ok := l.heard[i]; ok && l.w.now-h.at < 5*time.Second {
			v.Others = append(v.Others, h.wall+int64(l.w.now-h.at))
		}
	}
	return v
}

// mirror is what the oracle knows of a replica's log: the terms from first on, as
// written and as synced.
type mirror struct {
	written, synced terms
	// hard and promised are the hard state as written and as synced.
	hard, promised storage.HardState
}

type terms struct {
	truncated uint64
	list      []uint64
}

func (t terms) has(index, term uint64) bool {
	if index <= t.truncated {
		return true
	}
	i := index - t.truncated - 1
	return i < uint64(len(t.list)) && t.list[i] == term
}

func newNode(w *world, id int) *node {
	return &node{w: w, id: id, log: memstore.New(), state: memstore.New(), disk: map[storage.GroupID]*mirror{}, seats: map[storage.GroupID]*seat{}, damaged: map[storage.GroupID]bool{}}
}

func (n *node) crash(seed uint64) {
	for _, g := range n.life.groups {
		if g.incoming != nil {
			defer g.incoming.report(false) // its sender sees the connection break
		}
	}
	n.log, n.state, n.life = n.log.Crash(seed), n.state.Crash(seed*31+7), nil
	for _, m := range n.disk {
		if m != nil { // more may have come to the disk: the start will see
			m.written, m.hard = m.synced, m.promised
		}
	}
	if n.older = append(n.older, n.log); len(n.older) > 4 {
		n.older = append([]*memstore.Store(nil), n.older[1:]...)
	}
	n.log = n.log.Crash(0) // the same again: the older one stays as it is
	for i := range n.w.nodes {
		n.w.links[n.w.link(n.id, i)], n.w.links[n.w.link(i, n.id)] = nil, nil
	}
}

// start brings the node up from what its disk has.
func (n *node) start() bool {
	if n.life != nil {
		return false
	}
	w, quiet := n.w, slog.New(slog.DiscardHandler)
	logs, err := storage.NewLog(n.log, quiet)
	w.must(err)
	l := &life{node: n, w: w, logs: logs, states: storage.NewState(n.state, quiet), heard: map[int]clockReading{}}
	n.life = l
	last := int64(0)
	for g := 1; g <= w.set.Groups; g++ {
		n.open(storage.GroupID(g))
	}
	for _, x := range l.groups {
		last = max(last, x.sm.machine.LogTime())
	}
	l.clock = logclock.NewCore(last*int64(time.Millisecond), w.now)
	for _, g := range l.groups {
		if g.core.SoleVoter() {
			_ = g.core.Campaign() // it need not wait for anybody
		}
		g.drain()
	}
	return true
}

func (l *life) group(id storage.GroupID) *group {
	for _, g := range l.groups {
		if g.id == id {
			return g
		}
	}
	return nil
}

func (n *node) wallNow() int64 {
	return int64(epoch)*int64(time.Millisecond) + int64(n.w.now+n.wall)
}

// logNow is log time as a leader's node has it now, in milliseconds.
func (w *world) logNow(g *group) int64 {
	return g.life.clock.Now(g.life.wallNow(), w.now, g.life.clocks()) / int64(time.Millisecond)
}

// open reconciles a replica with its disk, as the engine does.
func (l *life) open(st *seat) (*group, error) {
	w, id := l.w, st.group
	sm, err := newPartition(w, l, id)
	if err != nil {
		return nil, err
	}
	g := &group{life: l, w: w, id: id, seat: st, sm: sm, cache: entrycache.New(int64(w.set.Cache)), waiters: map[waitKey]*entry{}}
	found, err := l.find(l.logs, g)
	if err != nil {
		return nil, err
	}
	start, err := replica.Reconcile(st.id, found)
	if err != nil {
		return nil, err
	}
	if start.Fresh && found.Recorded && !invariant.Broken(invariant.Reset) {
		l.deleteState(id)
		l.deleteLog(id)
		if err := sm.installed(l); err != nil {
			return nil, err
		}
	}
	w.must(l.states.DropStage(id))
	b := l.logs.NewBatch()
	switch {
	case start.Fresh:
		b.PutReplica(storage.ReplicaMeta{Group: id, Replica: st.id, State: storage.ReplicaLive, Truncated: start.Truncated})
		b.SetHardState(id, start.HardState)
	case start.Redo:
		b.Reset(id, start.Truncated, start.HardState)
	case start.Drop:
		b.DropInstall(id)
	}
	l.must(b.Commit(true))
	w.oracle.started(l.node, g)
	l.synced()
	g.applied, g.conf, g.at = start.Applied, start.Conf, start.Truncated
	if start.Applied > start.Truncated.Index {
		term, err := l.logs.Term(id, start.Applied)
		w.must(err)
		g.at = storage.Position{Index: start.Applied, Term: term}
	}
	c := replica.DefaultConfig()
	c.Group, c.ID, c.Start, c.Log, c.Cache = id, st.id, start, l.logs, g.cache
	c.MaxMessageBytes, c.MaxInflightMessages, c.MaxApplyingBytes = 1000, 8, 2000
	c.LateCommits = true
	g.core, err = replica.New(c)
	return g, err
}

// find gathers what the disk has of a replica.
func (l *life) find(logs *storage.Log, g *group) (f replica.Found, err error) {
	if f, err = foundIn(logs, g.id); err != nil {
		return f, err
	}
	f.Join = !g.seat.first
	f.Applied = g.sm.machine.Applied()
	f.Conf, err = l.states.Get(g.sm.machine.ConfKey())
	if errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	return f, err
}

func foundIn(logs *storage.Log, g storage.GroupID) (f replica.Found, err error) {
	records, err := logs.Replicas()
	if err != nil {
		return f, err
	}
	for _, r := range records {
		if r.Group == g {
			f.Recorded, f.Replica, f.Tombstone, f.Truncated = true, r.Replica, r.State != storage.ReplicaLive, r.Truncated
		}
	}
	if f.HardState, err = logs.HardState(g); err != nil {
		return f, err
	}
	if _, f.Last.Index = logs.Bounds(g); f.Last.Index > 0 {
		if f.Last.Term, err = logs.Term(g, f.Last.Index); err != nil {
			return f, err
		}
	}
	all, err := logs.Installs()
	for _, i := range all {
		if i.Group == g && i.Replica == f.Replica {
			f.Install = i.To
		}
	}
	return f, err
}

// seen lists the groups whose log in old is visibly behind the state; none, if that
// of another group is behind in a way that cannot be seen.
func (n *node) seen(old *memstore.Store) (hurt []storage.GroupID) {
	quiet := slog.New(slog.DiscardHandler)
	open := func(s *memstore.Store) *storage.Log {
		logs, err := storage.NewLog(s, quiet)
		n.w.must(err)
		return logs
	}
	before, now := open(old), open(n.log.Crash(0))
	n.log = n.log.Crash(0)
	states := storage.NewState(n.state.Crash(0), quiet)
	n.state = n.state.Crash(0)
	for g := storage.GroupID(1); int(g) <= n.w.set.Groups; g++ {
		f, err := foundIn(before, g)
		n.w.must(err)
		x, err := foundIn(now, g)
		n.w.must(err)
		m, err := repository.New(partitionOf(g), stateReader{states}, repository.Options{})
		n.w.must(err)
		switch {
		case reflect.DeepEqual(f, x): // nothing was lost
		case !f.Recorded || f.Tombstone || f.Install.Index != 0 || f.Replica != n.seats[g].id || m.Applied() <= f.Last.Index:
			return nil
		default:
			hurt = append(hurt, g)
		}
	}
	return hurt
}
