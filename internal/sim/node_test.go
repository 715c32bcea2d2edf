package sim

import (
	"errors"
	"log/slog"
	"reflect"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster/entrycache"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/logclock"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/internal/invariant"
	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/memstore"
)

// node is a machine and its data folder: what survives a crash, two stores and a
// clock. A folder that was removed from the cluster may be emptied; the machine
// then joins as another node.
type node struct {
	w     *world
	id    int // of the machine
	ident identity.NodeID
	boots uint64
	log   *memstore.Store
	state *memstore.Store
	wall  time.Duration // by how much its clock is off
	life  *life         // nil: it is down
	belong
	disk map[storage.GroupID]*mirror
	// older are former contents of the log; damaged groups lost a part of it.
	older   []*memstore.Store
	damaged map[storage.GroupID]bool
	// given are the replicas that were quarantined: none comes back.
	given map[storage.GroupID]storage.ReplicaID
}

// belong is what a data folder knows of its cluster, durably.
type belong struct {
	member  bool
	founder bool
	replica storage.ReplicaID // of meta
	over    bool              // the cluster has removed it
}

// life is a node that runs.
type life struct {
	*node
	w      *world
	boot   uint64
	logs   *storage.Log
	states *storage.State
	store  *meta.Store
	groups []*group
	broken map[storage.GroupID]storage.ReplicaID // quarantined ones
	clock  *logclock.Core
	// writes is the log writer's queue; the first written of them are in the log's
	// memory, and wait for the sync.
	writes  []logItem
	written int
	applies []applyItem
	wanted  []wanted
	heard   map[int]clockReading // the other nodes' clocks
	routes  map[storage.ReplicaID]int
	count   uint64 // ticks
	keeping
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
	var v logclock.Voters
	for _, r := range l.store.View().Wish(meta.MetaGroup) {
		if r.Role != meta.Voter {
			continue
		}
		v.Count++
		h, ok := l.heard[l.w.machineOf(r.Node)]
		if ok && r.Node != l.ident && l.w.now-h.at < 5*time.Second {
			v.Others = append(v.Others, h.wall+int64(l.w.now-h.at))
		}
	}
	v.Count = max(v.Count, 1)
	return v
}

// mirror is what the oracle knows of a replica's log: the terms from first on, as
// written and as synced.
type mirror struct {
	id              storage.ReplicaID
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

// overwrote says whether an entry of old has another term here. Only the leader of a
// newer term does that, perhaps with entries of an older one than those that it
// overwrites: these never had a majority.
func (t terms) overwrote(old terms) bool {
	for i, term := range old.list {
		index := old.truncated + uint64(i) + 1
		if index > t.truncated && index <= t.truncated+uint64(len(t.list)) && !t.has(index, term) {
			return true
		}
	}
	return false
}

func newNode(w *world, id int) *node {
	n := &node{w: w, id: id}
	n.empty()
	return n
}

// empty gives the machine a new data folder.
func (n *node) empty() {
	n.w.folders++
	n.hush()
	n.ident = identity.NodeID{byte(n.id), byte(n.w.folders >> 8), byte(n.w.folders), 1}
	n.w.machines[n.ident] = n.id
	n.log, n.state, n.boots, n.belong, n.older = memstore.New(), memstore.New(), 0, belong{}, nil
	for g := range n.disk {
		n.w.oracle.forget(n, g)
	}
	n.disk, n.damaged = map[storage.GroupID]*mirror{}, map[storage.GroupID]bool{}
	n.given = map[storage.GroupID]storage.ReplicaID{}
}

// self is the node as meta shall know it.
func (l *life) self() meta.Node {
	return l.node.self()
}

func (n *node) self() meta.Node {
	return meta.Node{ID: n.ident, Name: n.ident.String(), Boot: n.boots, Life: n.boots, Features: meta.Features{Min: 1, Max: 1}}
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
		n.w.links[n.w.link(i, n.id)] = nil
	}
	if seed%3 > 0 { // else its last words may still come in
		n.hush()
	}
}

// hush loses what the machine sent last.
func (n *node) hush() {
	for i := range n.w.nodes {
		n.w.links[n.w.link(n.id, i)] = nil
	}
}

// start brings the node up from what its disk has: the replica of meta, and what
// the map gives it.
func (n *node) start() bool {
	if n.life != nil || !n.member {
		return false
	}
	w, quiet := n.w, slog.New(slog.DiscardHandler)
	logs, err := storage.NewLog(n.log, quiet)
	w.must(err)
	n.boots++
	l := &life{
		node: n, w: w, boot: n.boots, logs: logs, states: storage.NewState(n.state, quiet), heard: map[int]clockReading{},
		broken: map[storage.GroupID]storage.ReplicaID{}, routes: map[storage.ReplicaID]int{}, keeping: newKeeping(),
	}
	n.life = l
	l.store, err = meta.Open(l.states)
	w.must(err)
	l.finishMeta()
	l.clock = logclock.NewCore(0, w.now)
	l.open(meta.MetaGroup, n.replica, !n.founder || n.replica != meta.FirstReplica)
	l.keep(5)
	last := int64(0)
	for _, x := range l.groups {
		if x.part != nil {
			last = max(last, x.part.machine.LogTime())
		}
	}
	l.clock.Raise(last * int64(time.Millisecond))
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

// open begins to run a replica, unless one of the group runs here.
func (l *life) open(id storage.GroupID, r storage.ReplicaID, join bool) {
	if l.group(id) != nil || l.broken[id] != 0 {
		return
	}
	if l.given[id] == r {
		l.broken[id] = r
		return
	}
	g, err := l.carefully(id, r, join)
	if l.w.flip.hits(l.node, id, err) {
		l.giveUp(id, r)
		l.w.flip.met = true
		l.w.flips++
		return
	}
	if errors.Is(err, replica.ErrQuarantined) && l.damaged[id] {
		l.giveUp(id, r)
		l.disk[id] = nil
		return
	}
	if errors.Is(err, replica.ErrTombstone) {
		return // the map that this node has is older than that
	}
	if err != nil {
		l.w.violate("node %d does not start replica %d of group %d: %v", l.id, r, id, err)
	}
	l.groups = append(l.groups, g)
	if g.core.SoleVoter() {
		_ = g.core.Campaign() // it need not wait for anybody
	}
	g.drain()
}

// carefully prepares a replica; that the disk is damaged is an error.
func (l *life) carefully(id storage.GroupID, r storage.ReplicaID, join bool) (g *group, err error) {
	defer func() {
		if v := recover(); v != nil {
			d, ok := v.(damage)
			if !ok {
				panic(v)
			}
			err = d.error
		}
	}()
	return l.prepare(id, r, join)
}

// prepare reconciles a replica with its disk, as the engine does.
func (l *life) prepare(id storage.GroupID, r storage.ReplicaID, join bool) (*group, error) {
	w := l.w
	g := &group{life: l, w: w, id: id, replica: r, cache: entrycache.New(int64(w.set.Cache)), waiters: map[waitKey]*waiting{}}
	if id == meta.MetaGroup {
		g.meta = &registry{w: w, store: l.store}
		g.sm = g.meta
	} else {
		part, err := newPartition(w, l, id)
		if err != nil {
			return nil, err
		}
		g.sm, g.part = part, part
	}
	found, err := l.find(l.logs, g, join)
	if err != nil {
		return nil, err
	}
	start, err := replica.Reconcile(r, found)
	if err != nil {
		return nil, err
	}
	if start.Fresh && found.Recorded && !invariant.Broken(invariant.Reset) {
		l.deleteState(g.sm)
		l.deleteLog(id)
		if err := g.sm.installed(l); err != nil {
			return nil, err
		}
	}
	w.must(l.states.DropStage(id))
	b, some := l.logs.NewBatch(), start.Fresh || start.Redo || start.Drop
	switch {
	case start.Fresh:
		b.PutReplica(storage.ReplicaMeta{Group: id, Replica: r, State: storage.ReplicaLive, Truncated: start.Truncated})
		b.SetHardState(id, start.HardState)
	case start.Redo:
		b.Reset(id, start.Truncated, start.HardState)
	case start.Drop:
		b.DropInstall(id)
	}
	if some {
		l.commit(b)
	} else {
		b.Discard()
	}
	w.oracle.started(l.node, g)
	g.applied, g.conf, g.at = start.Applied, start.Conf, start.Truncated
	if start.Applied > start.Truncated.Index {
		term, err := l.logs.Term(id, start.Applied)
		w.must(err)
		g.at = storage.Position{Index: start.Applied, Term: term}
	}
	c := replica.DefaultConfig()
	c.Group, c.ID, c.Start, c.Log, c.Cache = id, r, start, l.logs, g.cache
	c.MaxMessageBytes, c.MaxInflightMessages, c.MaxApplyingBytes = 1000, 8, 2000
	c.LateCommits = true
	c.ElectionTicks, c.HeartbeatTicks = pace.ElectionTicks, pace.HeartbeatTicks
	g.core, err = replica.New(c)
	return g, err
}

// find gathers what the disk has of a replica.
func (l *life) find(logs *storage.Log, g *group, join bool) (f replica.Found, err error) {
	if err := logs.Damaged(g.id); err != nil {
		return f, err
	}
	if f, err = foundIn(logs, g.id); err != nil {
		return f, err
	}
	f.Join = join
	f.Applied, f.Conf, err = g.sm.found()
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
	for g := storage.GroupID(0); int(g) <= n.w.set.Groups; g++ {
		f, err := foundIn(before, g)
		n.w.must(err)
		x, err := foundIn(now, g)
		n.w.must(err)
		if reflect.DeepEqual(f, x) {
			continue // nothing was lost
		}
		applied := n.appliedIn(states, g)
		if !f.Recorded || f.Tombstone || f.Install.Index != 0 || f.Replica != x.Replica || applied <= f.Last.Index {
			return nil
		}
		hurt = append(hurt, g)
	}
	return hurt
}

func (n *node) appliedIn(states *storage.State, g storage.GroupID) uint64 {
	if g == meta.MetaGroup {
		m, err := meta.Open(states)
		n.w.must(err)
		at, _, err := m.Applied()
		n.w.must(err)
		return at
	}
	m, err := repository.New(partitionOf(g), stateReader{states}, repository.Options{})
	n.w.must(err)
	return m.Applied()
}
