package client

import (
	"errors"
	"sync"
	"time"

	"github.com/waystation/waystation/client/internal/order"
)

// lane is a repository's lane and its place in the publisher's lists.
type lane struct {
	*order.Lane[*item]
	home *publisher
	repo string
	used bool // since the last eviction

	pipe    *pipe  // where it is pinned
	version uint64 // of the publisher's pipes, when it was placed
	moving  bool   // it belongs to another pipe, and waits for answers first
	moveBy  time.Time
	round   uint32 // counts how often it did not get them
	hash    uint64 // of repo, under seed
	seed    uint64
	hashed  bool

	listed     bool // in its pipe's ready
	next, prev *lane
	at         time.Time // when a wait ends
	timed      bool      // in delayed
	begin      bool      // the wait ends with the next epoch
	busy       bool      // refused for load since the last receipt
}

// publisher sends what belongs to some of the repositories. Its keeper looks after
// waits and pipes; of each pipe one goroutine sends and one receives. Everything
// that they and the callers share is under mu, which is taken once for each frame
// and for each batch of results.
type publisher struct {
	c    *Client
	link *link

	mu      sync.Mutex
	lanes   map[string]*lane
	delayed delayQueue
	moving  []*lane // in the order of their moveBy; some have moved since
	open    int     // packets that have not ended
	base    uint64
	flock   *flock
	sealed  []*flock // and unfinished
	waiting []*lane  // for an epoch from the cluster
	closed  bool
	isolate bool // one packet at a time: a stream ended with INVALID_ARGUMENT

	atlas   *atlas
	pipes   map[string]*pipe // by address
	nodes   map[string]*pipe // that are up, by the node at the other end
	lacking bool             // there is no pipe to one of the leaders
	astray  bool             // leaders are not where they are thought to be
	entry   *pipe            // for what has no better one
	turn    int              // the target to try next
	version uint64           // counts what may have lanes belong elsewhere

	// encode is held, shared, while items are gathered and encoded, so that abandon
	// does not take a content away meanwhile, and desert an item that would be
	// encoded for two streams at once. Locked before mu.
	encode sync.RWMutex

	wakeup  chan struct{} // the keeper's
	stopped chan struct{}
	streams sync.WaitGroup
	begun   bool
}

func newPublisher(c *Client, l *link, turn int) *publisher {
	return &publisher{
		c: c, link: l, lanes: make(map[string]*lane), base: 1, turn: turn % len(l.given),
		pipes: make(map[string]*pipe), nodes: make(map[string]*pipe),
		flock: &flock{}, wakeup: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
}

// push takes a packet over, whose room in the window is taken.
func (p *publisher) push(it *item) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	l := p.lanes[it.fields.RepoID]
	if l == nil {
		l = p.newLane(it.fields.RepoID)
	}
	if l.Stopped() {
		return fencedError(p.c.producer)
	}
	if l.pipe == nil || l.version != p.version {
		p.place(l)
	}
	it.lane, it.flock = l, p.flock
	p.flock.n++
	l.used = true
	it.key = l.Push(it, it.fields.PacketID != "")
	if p.open++; p.open == 1 && p.lacking {
		p.wake()
	}
	if !p.begun {
		p.begun = true
		go p.run()
	}
	s := l.pipe
	s.fresh++
	p.list(l)
	if !s.running || s.idle && (s.ahead < maxAhead || s.fresh >= minFrame) {
		s.nudge()
	}
	return nil
}

func (p *publisher) newLane(repo string) *lane {
	if len(p.lanes) >= maxLanes {
		p.evict()
	}
	epoch := p.base
	if p.c.cfg.producer != "" {
		epoch = p.c.epochs.newest.Load()
	}
	l := &lane{Lane: order.NewLane[*item](p.c.cfg.position, epoch), home: p, repo: repo}
	p.lanes[repo] = l
	return l
}

// maxLanes bounds the lanes that are remembered only for their next number.
const maxLanes = 1 << 16

// evict forgets the lanes that had nothing to do since the last eviction. Their
// repositories, should they come again, begin under a higher epoch. The epochs
// of a stable name are the cluster's to give, so there nothing is forgotten.
func (p *publisher) evict() {
	if p.c.cfg.producer != "" {
		return
	}
	for repo, l := range p.lanes {
		if !l.used && l.Idle() && !l.listed && !l.timed {
			p.base = max(p.base, l.Epoch()+1)
			delete(p.lanes, repo)
		}
		l.used = false
	}
}

// list puts a lane that has something to send into its pipe's ready.
func (p *publisher) list(l *lane) {
	if l.listed || l.moving || l.pipe == nil {
		return
	}
	if _, ok := l.Peek(); ok {
		l.listed = true
		l.pipe.ready.push(l)
	}
}

// unlist takes it out again.
func (p *publisher) unlist(l *lane) {
	if l.listed {
		l.listed = false
		l.pipe.ready.remove(l)
	}
}

// answers takes a batch of results and appends what ended to done.
func (s *pipe) answers(results []result, done []completion) []completion {
	p := s.p
	p.mu.Lock()
	s.ahead = 0
	for i := range results {
		done = s.answer(&results[i], done)
	}
	if p.isolate {
		p.nudgeAll()
	} else if s.idle && s.ready.head != nil {
		s.wake()
	}
	p.mu.Unlock()
	return done
}

func (s *pipe) answer(r *result, done []completion) []completion {
	t, ok := s.slots.Take(r.index)
	if !ok || t.round != t.lane.round {
		return done // answered before, or given up: the first answer counts
	}
	l, p := t.lane, s.p
	it, over := l.Answer(t.key, r.verdict())
	switch {
	case it == nil:
	case over && r.err == nil:
		l.busy = false
		done = append(done, p.finish(it, r.receipt(l.repo, it.fields.PacketID), nil))
	case over:
		done = append(done, p.finish(it, Receipt{}, r.err))
	default:
		it.last = r.err
		l.busy = l.busy || r.err.Code == CodeResourceExhausted
	}
	return p.advance(l, done)
}

// finish marks an item as ended. Its callback is called without the lock.
func (p *publisher) finish(it *item, r Receipt, err error) completion {
	it.over = true
	p.open--
	return completion{it: it, receipt: r, err: err}
}

// advance does what a lane asks for after an input.
func (p *publisher) advance(l *lane, done []completion) []completion {
	for again := true; again; {
		again = false
		switch st := l.Step(); st.Kind {
		case order.StepWait:
			if st.Failures >= astrayAfter && !l.busy {
				p.astray = true
				p.wake()
			}
			p.delay(l, p.waitOf(l, st))
		case order.StepEpoch:
			again = p.nextEpoch(l, st)
		}
	}
	done = p.ended(l, done)
	if l.moving && l.Open() == 0 {
		p.place(l)
		return done
	}
	p.list(l)
	if l.listed && !l.pipe.running {
		p.wake()
	}
	return done
}

// ended appends what ended without an answer of its own.
func (p *publisher) ended(l *lane, done []completion) []completion {
	for _, e := range l.Ended() {
		err := e.Payload.outcome(e.Maybe)
		switch {
		case p.closed:
			err = errors.Join(ErrClosed, err)
		case l.Stopped() && !e.Maybe:
			err = fencedError(p.c.producer)
		}
		done = append(done, p.finish(e.Payload, Receipt{}, err))
	}
	return done
}

// waitOf is how long a lane waits. For want of a leader that is no longer than
// between two tries to reach a node: there is another one within about a second.
func (p *publisher) waitOf(l *lane, st order.Step) time.Duration {
	retry := p.c.cfg.retry
	if !l.busy {
		retry.Max = min(retry.Max, maxReconnect)
		retry.Min = min(retry.Min, retry.Max)
	}
	return retry.wait(st.Failures, millis(st.DelayMs))
}

func (p *publisher) delay(l *lane, d time.Duration) {
	l.at = time.Now().Add(d)
	if p.delayed.push(l) {
		p.wake() // the keeper sleeps for longer than that
	}
}
