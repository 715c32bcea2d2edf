package actors

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waystation/waystation/messages/envelope"
	"github.com/waystation/waystation/storage"
)

var (
	errFakeDropped = errors.New("fake: proposal dropped")
	errFakeUnknown = errors.New("fake: leadership lost")
)

// fakeProposer is the engine's place: entries are applied in the order in which
// they are proposed, by one goroutine, through the real partitions.
type fakeProposer struct {
	deposed atomic.Bool // another node leads, and nobody has said so here

	mu        sync.Mutex
	machines  map[storage.GroupID]*Partition
	logs      map[storage.GroupID]*fakeLog
	held      map[storage.GroupID]bool // nothing is applied
	allowed   map[storage.GroupID]int  // but so many entries
	drop      int                      // so many proposals are dropped
	clock     func() int64             // log time, ms
	proposals uint64
	jobs      []func()
	wake      chan struct{}
	quit      chan struct{}
	stopping  sync.Once
	done      chan struct{}
	keepLogs  bool
}

type fakeLog struct {
	term      uint64
	last      uint64
	truncated uint64
	entries   map[uint64][]byte
	waiting   []fakeWaiter // proposed, and not applied: they are in the log
}

type fakeWaiter struct {
	entry storage.Entry
	done  func(any, error)
}

func newFakeProposer() *fakeProposer {
	f := &fakeProposer{
		machines: map[storage.GroupID]*Partition{}, logs: map[storage.GroupID]*fakeLog{},
		held: map[storage.GroupID]bool{}, allowed: map[storage.GroupID]int{}, clock: func() int64 { return time.Now().UnixMilli() },
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}), keepLogs: true,
	}
	go f.run()
	return f
}

func (f *fakeProposer) run() {
	defer close(f.done)
	for {
		select {
		case <-f.wake:
		case <-f.quit:
			return
		}
		for f.step() { //nolint:revive // the step is the body
		}
	}
}

func (f *fakeProposer) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// step runs one job, or applies one entry of each group. It answers false when
// there was nothing to do.
func (f *fakeProposer) step() bool {
	f.mu.Lock()
	if len(f.jobs) > 0 {
		job := f.jobs[0]
		f.jobs = f.jobs[1:]
		f.mu.Unlock()
		job()
		return true
	}
	var todo []fakeWaiter
	var parts []*Partition
	for g, l := range f.logs {
		if len(l.waiting) == 0 || f.held[g] && f.allowed[g] == 0 {
			continue
		}
		if f.held[g] {
			f.allowed[g]--
		}
		todo = append(todo, l.waiting[0])
		l.waiting = l.waiting[1:]
		parts = append(parts, f.machines[g])
	}
	f.mu.Unlock()
	for i, w := range todo {
		res, err := parts[i].Apply(w.entry)
		if err != nil {
			panic(fmt.Sprintf("apply: %v", err))
		}
		if w.done != nil {
			w.done(res, nil)
		}
	}
	return len(todo) > 0
}

// Propose implements Proposer.
func (f *fakeProposer) Propose(g storage.GroupID, term uint64, data []byte, done func(any, error)) {
	f.mu.Lock()
	l := f.logs[g]
	if l == nil || l.term != term || f.drop > 0 {
		if f.drop > 0 {
			f.drop--
		}
		f.mu.Unlock()
		done(nil, errFakeDropped)
		return
	}
	f.proposals++
	envelope.Envelope{
		Version: envelope.Version1, Term: term, Proposal: f.proposals, TimeMs: f.clock(),
	}.Put(data)
	f.appendLocked(g, term, data, done)
	f.mu.Unlock()
	f.signal()
}

func (f *fakeProposer) appendLocked(g storage.GroupID, term uint64, data []byte, done func(any, error)) {
	l := f.logs[g]
	l.last++
	if f.keepLogs {
		l.entries[l.last] = data
	}
	l.waiting = append(l.waiting, fakeWaiter{storage.Entry{Index: l.last, Term: term, Data: data}, done})
}

// ReadIndex implements Proposer.
func (f *fakeProposer) ReadIndex(g storage.GroupID, done func(uint64, error)) {
	f.mu.Lock()
	l := f.logs[g]
	leads, last := l != nil && l.term != 0, uint64(0)
	if l != nil {
		last = l.last
	}
	f.jobs = append(f.jobs, func() {
		if !leads || f.deposed.Load() {
			done(0, errFakeDropped)
			return
		}
		done(last, nil)
	})
	f.mu.Unlock()
	f.signal()
}

// ReadAt implements Proposer.
func (f *fakeProposer) ReadAt(g storage.GroupID, index uint64, off, n int, dst []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.logs[g]
	if l == nil || index > l.last {
		return dst, storage.ErrUnavailable
	}
	if index <= l.truncated {
		return dst, storage.ErrCompacted
	}
	data := l.entries[index]
	if off < 0 || off+n > len(data) {
		return dst, storage.ErrRange
	}
	return append(dst, data[off:off+n]...), nil
}

// hold stops applying in a group, or goes on.
func (f *fakeProposer) hold(g storage.GroupID, v bool) {
	f.mu.Lock()
	f.held[g] = v
	f.mu.Unlock()
	f.signal()
}

// allow lets n entries of a held group be applied.
func (f *fakeProposer) allow(g storage.GroupID, n int) {
	f.mu.Lock()
	f.allowed[g] += n
	f.mu.Unlock()
	f.signal()
}

// last is the index of the last entry of a group.
func (f *fakeProposer) last(g storage.GroupID) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logs[g].last
}

// lead makes this node the leader of a group in the next term: its no-op is
// applied, then the partition is told.
func (f *fakeProposer) lead(g storage.GroupID) {
	f.mu.Lock()
	l := f.logs[g]
	if l == nil {
		l = &fakeLog{last: 5, truncated: 5, entries: map[uint64][]byte{}}
		f.logs[g] = l
	}
	p := f.machines[g]
	l.term = max(l.term, l.lastTerm()) + 1
	term := l.term
	f.appendLocked(g, term, nil, func(any, error) { p.LeaderStart(term) })
	f.mu.Unlock()
	f.signal()
}

func (l *fakeLog) lastTerm() uint64 { return l.last } // any number that only grows

// resign takes the leadership away. Entries that are in the log stay there: they
// are applied in their own term later, with nobody waiting.
func (f *fakeProposer) resign(g storage.GroupID) {
	f.mu.Lock()
	l, p := f.logs[g], f.machines[g]
	term := l.term
	l.term = 0
	var failed []func(any, error)
	for i := range l.waiting {
		if l.waiting[i].done != nil {
			failed = append(failed, l.waiting[i].done)
			l.waiting[i].done = nil
		}
	}
	f.jobs = append(f.jobs, func() {
		p.LeaderStop(term)
		for _, done := range failed {
			done(nil, errFakeUnknown)
		}
	})
	f.mu.Unlock()
	f.signal()
}

// truncate spills and truncates a group's log up to index.
func (f *fakeProposer) truncate(t testing.TB, g storage.GroupID, index uint64) {
	t.Helper()
	read := func(i uint64) ([]byte, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.logs[g].entries[i], nil
	}
	for done := false; !done; {
		var err error
		if done, err = f.machines[g].Spill(index, 1<<16, read); err != nil {
			t.Fatalf("spill: %v", err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.logs[g]
	for i := l.truncated + 1; i <= index; i++ {
		delete(l.entries, i)
	}
	l.truncated = max(l.truncated, index)
}

// stop ends it; a second call does nothing.
func (f *fakeProposer) stop() {
	f.stopping.Do(func() { close(f.quit) })
	<-f.done
}
