package cluster

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/entrycache"
	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// group is one replica and what surrounds it. Fields without a word about
// their guard never change.
type group struct {
	engine  *Engine
	id      storage.GroupID
	replica storage.ReplicaID
	sm      StateMachine
	cache   *entrycache.Cache
	worker  *worker

	// Of the worker alone.
	core      *replica.Replica
	proposals uint64
	asked     reads
	inStep    uint64    // the term whose heartbeats come with those of other groups
	incoming  *incoming // a snapshot that raft was just given

	// Of the apply loop alone: the term in which sm was told that it leads, what
	// is applied, and the configuration that is stored with it.
	started uint64
	at      storage.Position
	conf    replica.Conf
	// installing says that the state is being replaced.
	installing bool
	shots      []*Shot // that wait for an entry

	inbox    inbox
	waiters  waiters
	confirms confirms
	extent   extent

	leads   atomic.Uint64 // the term in which this replica leads, or 0
	calm    atomic.Bool   // ticks may wait, see tick
	sends   atomic.Int32  // snapshots that are wanted or under way
	applied atomic.Uint64
	cutTo   atomic.Uint64 // the log is truncated up to here, or about to be
	status  atomic.Pointer[published]
	failure atomic.Pointer[failure]

	door sync.Mutex
	shut bool           // nobody may begin to; guarded by door
	busy sync.WaitGroup // who works on the group's stores beside the loops
}

// published is what others may know of a core.
type published struct {
	replica.Status
	progress []replica.Progress
}

// failure is why a replica runs no more.
type failure struct{ err error }

// input is what waits for the worker.
type input struct {
	proposals []proposal
	bytes     int
	reads     []func(uint64, error)
	messages  []*pb.Message
	appended  []*replica.AppendJob
	applied   []*replica.ApplyJob
	ticks     int
	campaign  bool
	truncate  uint64
	floor     uint64 // who lacks what is below gets a snapshot
	changes   []confProposal
	transfer  storage.ReplicaID
	handover  bool
	reports   []report
	lost      []storage.ReplicaID // messages to them were
	gone      storage.ReplicaID   // its process has ended
	snapshot  *incoming
}

// report is what came of a snapshot that was to be sent.
type report struct {
	to storage.ReplicaID
	ok bool
}

type proposal struct {
	term uint64
	data []byte
	done func(any, error)
}

// inbox gathers input for the worker. A group with a full inbox is on its
// worker's list exactly once.
type inbox struct {
	mu     sync.Mutex
	in     input
	spare  input
	listed bool
	closed bool
}

// post lets add change the waiting input, and calls the worker if it does not
// know yet. It returns false, without having called add, after close.
func (g *group) post(add func(*input)) bool {
	b := &g.inbox
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return false
	}
	add(&b.in)
	call := !b.listed
	b.listed = true
	b.mu.Unlock()
	if call {
		g.worker.push(g)
	}
	return true
}

// take returns all that waits. It is valid until recycle.
func (b *inbox) take() input {
	b.mu.Lock()
	defer b.mu.Unlock()
	in := b.in
	b.in, b.spare, b.listed = b.spare, input{}, false
	return in
}

// recycle gives the slices of a taken input back, so that a busy group does
// not allocate them anew each time.
func (b *inbox) recycle(in input) {
	clear(in.proposals)
	clear(in.reads)
	clear(in.messages)
	clear(in.appended)
	clear(in.applied)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spare = input{
		proposals: in.proposals[:0], reads: in.reads[:0], messages: in.messages[:0],
		appended: in.appended[:0], applied: in.applied[:0],
	}
}

// close refuses input from now on and returns what waits.
func (b *inbox) close() input {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	in := b.in
	b.in = input{}
	return in
}

// propose queues p, or answers it at once.
func (g *group) propose(p proposal) {
	cfg := &g.engine.cfg
	full := false
	ok := g.post(func(in *input) {
		n := len(in.proposals)
		if full = n > 0 && (n >= cfg.QueuedProposals || in.bytes+len(p.data) > cfg.QueuedBytes); full {
			return
		}
		in.proposals = append(in.proposals, p)
		in.bytes += len(p.data)
	})
	switch {
	case !ok:
		p.done(nil, g.stopped())
	case full:
		p.done(nil, ErrDropped)
	}
}

func (g *group) readIndex(done func(uint64, error)) {
	full := false
	ok := g.post(func(in *input) {
		if full = len(in.reads) >= maxReads; !full {
			in.reads = append(in.reads, done)
		}
	})
	switch {
	case !ok:
		done(0, g.stopped())
	case full:
		done(0, ErrDropped)
	}
}

const (
	// maxReads bounds the reads that wait for one group's worker. They share
	// one round.
	maxReads = 64 << 10
	// maxMessages bounds the messages of other replicas that wait. Raft itself
	// bounds the bytes of what a leader sends ahead.
	maxMessages = 1024
)

// stopped says why the group takes nothing any more.
func (g *group) stopped() error {
	if f := g.failure.Load(); f != nil {
		return fmt.Errorf("replica of group %d: %w: %w", g.id, ErrStopped, f.err)
	}
	return ErrStopped
}

// fail stops this replica for good: it never skips what it cannot do.
// It may be called from any goroutine, and more than once.
func (g *group) fail(err error) {
	if !g.failure.CompareAndSwap(nil, &failure{quarantine(err)}) {
		return
	}
	e := g.engine
	g.keepQuarantine(g.failure.Load().err)
	if errors.Is(err, ErrRemoved) {
		e.cfg.Logger.Info("replica removed", "group", g.id, "replica", g.replica, "applied", g.applied.Load())
	} else {
		e.metrics.replicasFailed.Inc()
		e.cfg.Logger.Error("replica stopped", "group", g.id, "replica", g.replica, "applied", g.applied.Load(), "err", err)
	}
	if term := g.leads.Swap(0); term != 0 {
		e.applier.lost(g, term)
	}
	g.refuse(g.inbox.close())
	g.waiters.close(ErrUnknown)
	g.confirms.fail(g.stopped())
	// The rounds that raft was asked for are the worker's: it gives them up.
	g.worker.push(g)
}

// refuse answers what waited for the worker and will not be seen by it. What
// was answered already is zero.
func (g *group) refuse(in input) {
	for _, p := range in.proposals {
		if p.done != nil {
			p.done(nil, g.stopped())
		}
	}
	for _, done := range in.reads {
		if done != nil {
			done(0, g.stopped())
		}
	}
	for _, p := range in.changes {
		if p.done != nil {
			p.done(g.stopped())
		}
	}
	if in.snapshot != nil {
		in.snapshot.done <- g.stopped()
	}
}
