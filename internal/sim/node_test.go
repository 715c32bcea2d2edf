package sim

import (
	"errors"
	"log/slog"
	"time"

	"github.com/waystation/waystation/cluster/entrycache"
	"github.com/waystation/waystation/cluster/logclock"
	"github.com/waystation/waystation/cluster/replica"
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
type mirror struct{ written, synced terms }

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
	return &node{w: w, id: id, log: memstore.New(), state: memstore.New(), disk: map[storage.GroupID]*mirror{}}
}

func (n *node) crash(seed uint64) {
	n.log, n.state, n.life = n.log.Crash(seed), n.state.Crash(seed*31+7), nil
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
		x, err := l.open(storage.GroupID(g))
		if errors.Is(err, replica.ErrQuarantined) {
			w.violate("node %d: %v", n.id, err)
		}
		w.must(err)
		l.groups = append(l.groups, x)
		last = max(last, x.sm.machine.LogTime())
	}
	l.clock = logclock.NewCore(last*int64(time.Millisecond), w.now)
	for _, g := range l.groups {
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
func (l *life) open(id storage.GroupID) (*group, error) {
	w := l.w
	sm, err := newPartition(w, l, id)
	if err != nil {
		return nil, err
	}
	g := &group{life: l, w: w, id: id, sm: sm, cache: entrycache.New(int64(w.set.Cache)), waiters: map[waitKey]*entry{}}
	me := storage.ReplicaID(l.id)
	found, err := l.find(g)
	if err != nil {
		return nil, err
	}
	start, err := replica.Reconcile(me, found)
	if err != nil {
		return nil, err
	}
	if start.Fresh {
		b := l.logs.NewBatch()
		b.PutReplica(storage.ReplicaMeta{Group: id, Replica: me, State: storage.ReplicaLive, Truncated: start.Truncated})
		b.SetHardState(id, start.HardState)
		if err := b.Commit(true); err != nil {
			return nil, err
		}
	}
	w.oracle.started(l.node, g)
	c := replica.DefaultConfig()
	c.Group, c.ID = id, me
	start.Conf = replica.Conf{Voters: w.voters()}
	c.Start, c.Log, c.Cache = start, l.logs, g.cache
	c.MaxMessageBytes, c.MaxInflightMessages, c.MaxApplyingBytes = 1000, 8, 2000
	g.applied = start.Applied
	g.core, err = replica.New(c)
	return g, err
}

// find gathers what the disk has of a replica.
func (l *life) find(g *group) (f replica.Found, err error) {
	records, err := l.logs.Replicas()
	if err != nil {
		return f, err
	}
	for _, r := range records {
		if r.Group == g.id {
			f.Recorded, f.Replica, f.Tombstone, f.Truncated = true, r.Replica, r.State != storage.ReplicaLive, r.Truncated
		}
	}
	if f.HardState, err = l.logs.HardState(g.id); err != nil {
		return f, err
	}
	if _, f.Last.Index = l.logs.Bounds(g.id); f.Last.Index > 0 {
		if f.Last.Term, err = l.logs.Term(g.id, f.Last.Index); err != nil {
			return f, err
		}
	}
	f.Applied = g.sm.machine.Applied()
	return f, nil
}
