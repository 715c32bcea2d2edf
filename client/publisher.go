package client

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waystation/waystation/client/internal/order"
)

// lane is a repository's lane and its place in the publisher's lists.
type lane struct {
	*order.Lane[*item]
	home   *publisher
	repo   string
	listed bool // in ready
	used   bool // since the last eviction
	next   *lane
	at     time.Time // when a wait ends
	timed  bool      // in delayed
	begin  bool      // the wait ends with the next epoch
}

// slot is what a try's ordinal in the stream stands for.
type slot struct {
	lane *lane
	key  uint64
}

// publisher sends what belongs to the repositories that are pinned to one link.
// One goroutine sends, one more for each stream receives; everything that they
// and the callers share is under mu, which is taken once for each frame and for
// each batch of results.
type publisher struct {
	c    *Client
	link *link

	mu      sync.Mutex
	lanes   map[string]*lane
	ready   laneList // lanes that have something to send
	delayed delayQueue
	slots   order.Slots[slot]
	fresh   int // packets pushed since the last gathering
	ahead   int // frames sent since the last answer came
	base    uint64
	flock   *flock
	sealed  []*flock // and unfinished
	waiting []*lane  // for an epoch from the cluster
	closed  bool
	isolate bool          // one packet at a time: the stream ended with INVALID_ARGUMENT
	asked   time.Time     // when the first of the tries without an answer was sent
	sent    atomic.Uint64 // ordinals that were given to the stream

	// encode is held while items are encoded, so that abandon does not take a
	// content away meanwhile. Locked before mu.
	encode sync.Mutex

	idle    bool // the sender sleeps
	wakeup  chan struct{}
	timer   *time.Timer // the sender's own
	stopped chan struct{}
	begun   bool
}

func newPublisher(c *Client, l *link) *publisher {
	return &publisher{
		c: c, link: l, lanes: make(map[string]*lane), base: 1,
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
	it.lane, it.flock = l, p.flock
	p.flock.n++
	l.used = true
	it.key = l.Push(it, it.fields.PacketID != "")
	p.fresh++
	p.list(l)
	if !p.begun {
		p.begun = true
		go p.run()
	}
	if p.idle && (p.ahead < maxAhead || p.fresh >= minFrame) {
		p.wake()
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

// list puts a lane that has something to send into ready.
func (p *publisher) list(l *lane) {
	if l.listed {
		return
	}
	if _, ok := l.Peek(); ok {
		l.listed = true
		p.ready.push(l)
	}
}

// wake has the sender look again.
func (p *publisher) wake() {
	p.idle = false
	select {
	case p.wakeup <- struct{}{}:
	default:
	}
}

// answers takes a batch of results and appends what ended to done.
func (p *publisher) answers(results []result, done []completion) []completion {
	p.mu.Lock()
	p.ahead = 0
	for i := range results {
		done = p.answer(&results[i], done)
	}
	if p.idle && (p.ready.head != nil || p.isolate) {
		p.wake()
	}
	p.mu.Unlock()
	return done
}

func (p *publisher) answer(r *result, done []completion) []completion {
	s, ok := p.slots.Take(r.index)
	if !ok {
		return done // answered before: the first answer counts
	}
	l := s.lane
	it, over := l.Answer(s.key, r.verdict())
	switch {
	case it == nil:
	case over && r.err == nil:
		done = append(done, p.finish(it, r.receipt(l.repo, it.fields.PacketID), nil))
	case over:
		done = append(done, p.finish(it, Receipt{}, r.err))
	default:
		it.last = r.err
	}
	return p.advance(l, done)
}

// finish marks an item as ended. Its callback is called without the lock.
func (p *publisher) finish(it *item, r Receipt, err error) completion {
	it.over = true
	return completion{it: it, receipt: r, err: err}
}

// advance does what a lane asks for after an input.
func (p *publisher) advance(l *lane, done []completion) []completion {
	for again := true; again; {
		again = false
		switch st := l.Step(); st.Kind {
		case order.StepWait:
			p.delay(l, p.c.cfg.retry.wait(st.Failures, millis(st.DelayMs)))
		case order.StepEpoch:
			again = p.nextEpoch(l, st)
		}
	}
	done = p.ended(l, done)
	p.list(l)
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

func (p *publisher) delay(l *lane, d time.Duration) {
	l.at = time.Now().Add(d)
	p.delayed.push(l)
	if p.idle && p.delayed[0] == l {
		p.wake() // the sender sleeps for longer than that
	}
}

// resume ends the waits that are over, and returns how long the next one lasts.
func (p *publisher) resume(now time.Time, done []completion) (time.Duration, []completion) {
	for len(p.delayed) > 0 {
		l := p.delayed[0]
		if d := l.at.Sub(now); d > 0 {
			return d, done
		}
		p.delayed.pop()
		if l.begin {
			l.begin = false
			l.SetEpoch(l.Epoch() + 1)
		} else {
			l.Resume()
		}
		done = p.advance(l, done)
	}
	return 0, done
}
