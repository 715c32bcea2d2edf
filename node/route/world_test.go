package route

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/envelope"
	"github.com/waystation/waystation/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errDropped = errors.New("toy: not the leader")
	errUnknown = errors.New("toy: leadership lost")
)

// world is a toy replication: each group has one log, which one goroutine applies
// on every node. Leaders change when a test says so.
type world struct {
	mu      sync.Mutex
	logs    map[storage.GroupID]*toyLog
	nodes   []*node
	jobs    []func()
	changed chan struct{} // of leaders
	number  uint64

	wake chan struct{}
	quit chan struct{}
	done chan struct{}
}

type toyLog struct {
	leader  int // -1: none
	term    uint64
	last    uint64
	entries map[uint64][]byte
	waiting []toyEntry
	held    bool
}

type toyEntry struct {
	entry storage.Entry
	by    int
	done  func(any, error)
}

func newWorld(partitions int) *world {
	w := &world{
		logs: map[storage.GroupID]*toyLog{}, changed: make(chan struct{}),
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
	for i := range partitions {
		w.logs[storage.GroupID(i+1)] = &toyLog{leader: -1, last: 5, term: 1, entries: map[uint64][]byte{}}
	}
	return w
}

func (w *world) run() {
	defer close(w.done)
	for {
		select {
		case <-w.wake:
		case <-w.quit:
			return
		}
		for w.step() { //nolint:revive // the step is the body
		}
	}
}

func (w *world) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *world) step() bool {
	w.mu.Lock()
	if len(w.jobs) > 0 {
		job := w.jobs[0]
		w.jobs = w.jobs[1:]
		w.mu.Unlock()
		job()
		return true
	}
	type todo struct {
		g storage.GroupID
		e toyEntry
	}
	var list []todo
	for g, l := range w.logs {
		if len(l.waiting) > 0 && !l.held {
			list = append(list, todo{g, l.waiting[0]})
			l.waiting = l.waiting[1:]
		}
	}
	w.mu.Unlock()
	for _, x := range list {
		for _, n := range w.nodes {
			res, err := n.relay.Partition(repository.PartitionID(x.g - 1)).Apply(x.e.entry)
			if err != nil {
				panic(fmt.Sprintf("apply: %v", err))
			}
			if n.at == x.e.by && x.e.done != nil {
				x.e.done(res, nil)
			}
		}
	}
	return len(list) > 0
}

// proposer is one node's access to the world.
type proposer struct {
	w  *world
	at int
}

// Propose implements actors.Proposer.
func (p proposer) Propose(g storage.GroupID, term uint64, data []byte, done func(any, error)) {
	w := p.w
	w.mu.Lock()
	l := w.logs[g]
	if l.leader != p.at || l.term != term {
		w.mu.Unlock()
		done(nil, errDropped)
		return
	}
	w.number++
	envelope.Envelope{Version: envelope.Version1, Term: term, Proposal: w.number, TimeMs: time.Now().UnixMilli()}.Put(data)
	w.append(g, p.at, data, done)
	w.mu.Unlock()
	w.signal()
}

func (w *world) append(g storage.GroupID, by int, data []byte, done func(any, error)) {
	l := w.logs[g]
	l.last++
	l.entries[l.last] = data
	l.waiting = append(l.waiting, toyEntry{storage.Entry{Index: l.last, Term: l.term, Data: data}, by, done})
}

// ReadIndex implements actors.Proposer.
func (p proposer) ReadIndex(g storage.GroupID, done func(uint64, error)) {
	w := p.w
	w.mu.Lock()
	l := w.logs[g]
	leads, last := l.leader == p.at, l.last
	w.jobs = append(w.jobs, func() {
		if !leads {
			done(0, errDropped)
			return
		}
		done(last, nil)
	})
	w.mu.Unlock()
	w.signal()
}

// ReadAt implements actors.Proposer.
func (p proposer) ReadAt(g storage.GroupID, index uint64, off, n int, dst []byte) ([]byte, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	data := p.w.logs[g].entries[index]
	if off < 0 || off+n > len(data) {
		return dst, storage.ErrRange
	}
	return append(dst, data[off:off+n]...), nil
}

// hold keeps what is proposed to a partition from being applied, or lets it go.
func (w *world) hold(p repository.PartitionID, held bool) {
	w.mu.Lock()
	w.logs[storage.GroupID(p)+1].held = held
	w.mu.Unlock()
	w.signal()
}

// lead makes a node the leader of a partition, or nobody with -1. What the former
// one has proposed is in the log: nobody waits for it any more.
func (w *world) lead(p repository.PartitionID, to int) {
	g := storage.GroupID(p) + 1
	w.mu.Lock()
	l := w.logs[g]
	old, term := l.leader, l.term
	var failed []func(any, error)
	for i := range l.waiting {
		if l.waiting[i].done != nil {
			failed = append(failed, l.waiting[i].done)
			l.waiting[i].done = nil
		}
	}
	l.leader = to
	l.term++
	next := l.term
	if old >= 0 {
		w.jobs = append(w.jobs, func() {
			w.nodes[old].relay.Partition(p).LeaderStop(term)
			for _, done := range failed {
				done(nil, errUnknown)
			}
		})
	}
	if to >= 0 {
		w.append(g, to, nil, func(any, error) { w.nodes[to].relay.Partition(p).LeaderStart(next) })
	}
	w.tell()
	w.mu.Unlock()
	w.signal()
}

// tell says that something changed. The caller holds w.mu.
func (w *world) tell() {
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) stop() {
	close(w.quit)
	<-w.done
}

// seen is the cluster as one node sees it.
type seen struct {
	w  *world
	at int

	mu       sync.Mutex
	suspects int
}

// Leader implements Cluster.
func (s *seen) Leader(p repository.PartitionID) (Leader, bool) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	l := s.w.logs[storage.GroupID(p)+1]
	if l.leader < 0 {
		return Leader{}, false
	}
	return Leader{Node: nodeName(l.leader), Term: l.term, Local: l.leader == s.at}, true
}

// Self implements Cluster.
func (s *seen) Self() Node {
	return Node{ID: nodeName(s.at), GRPCAddr: "public-" + nodeName(s.at) + ":1"}
}

// Nodes implements Cluster.
func (s *seen) Nodes() (list []Node) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for _, n := range s.w.nodes {
		if n.at != s.at && !n.gone {
			list = append(list, Node{ID: nodeName(n.at), PeerAddr: n.addr, GRPCAddr: "public-" + nodeName(n.at) + ":1"})
		}
	}
	return list
}

// Changed implements Cluster.
func (s *seen) Changed() <-chan struct{} {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.w.changed
}

// Suspect implements Cluster.
func (s *seen) Suspect(repository.PartitionID, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspects++
}

func nodeName(at int) string { return string(rune('a' + at)) }

// groups are everybody's.
type groups struct {
	w      *world
	mu     sync.Mutex
	byName map[string]repository.GroupConfig
}
