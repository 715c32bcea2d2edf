package client

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/waystation/waystation/client/internal/order"
)

// slot is what a try's ordinal in the stream stands for.
type slot struct {
	lane  *lane
	key   uint64
	round uint32 // of the lane, when it was sent
}

// pipe is a publisher's way to one address: one stream at a time, opened when
// there is something to send or a leader is thought to be there. What it has
// without a comment of its own is guarded by the publisher's mutex.
type pipe struct {
	p     *publisher
	addr  string
	given bool // the caller named the address, nobody else

	running  bool      // there is a goroutine
	begun    time.Time // when it began
	up       bool      // and a stream
	rest     time.Time // begin no other one before
	failures int       // streams in a row that brought nothing
	// cluster and node are what the other end says that it is: "" when it did not
	// yet, or is too old to. known says that it once did.
	cluster, node string
	known         bool

	ready laneList // lanes that have something to send
	slots order.Slots[slot]
	fresh int       // packets pushed since the last gathering
	ahead int       // frames sent since the last answer came
	asked time.Time // when the first of the tries without an answer was sent
	idle  bool      // the sender sleeps

	sent   atomic.Uint64 // ordinals that were given to the stream
	wakeup chan struct{}
}

func (p *publisher) pipeTo(addr string) *pipe {
	s := p.pipes[addr]
	if s == nil {
		s = &pipe{p: p, addr: addr, given: p.link.named(addr), wakeup: make(chan struct{}, 1)}
		p.pipes[addr] = s
	}
	return s
}

// start opens a stream, unless there is one.
func (s *pipe) start(now time.Time) {
	if s.running || s.p.closed || s.p.c.ctx.Err() != nil {
		return
	}
	s.running, s.begun = true, now
	s.p.streams.Go(s.run)
}

// usable says whether packets may go there: what is not known to be of the cluster
// could be anybody's.
func (s *pipe) usable() bool {
	a := s.p.atlas
	return s.up && (a == nil || s.cluster == a.cluster || s.cluster == "" && s.given)
}

// nudge has something done about what is ready.
func (s *pipe) nudge() {
	switch {
	case !s.running:
		s.p.wake()
	case s.idle:
		s.wake()
	}
}

// nudgeAll has all look who have something ready.
func (p *publisher) nudgeAll() {
	for _, s := range p.pipes {
		if s.ready.head != nil {
			s.nudge()
		}
	}
}

// wake has the sender look again.
func (s *pipe) wake() {
	s.idle = false
	select {
	case s.wakeup <- struct{}{}:
	default:
	}
}

// opened notes that there is a stream.
func (s *pipe) opened() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.up, s.ahead = true, 0
	s.sent.Store(0)
	s.asked = time.Now()
	s.p.replace()
}

// identified notes who is at the other end.
func (s *pipe) identified(cluster, node string) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.cluster, s.node, s.known, s.failures = cluster, node, true, 0
	s.p.remapped()
}

// strangerRest is how long an address rests behind which there was another
// cluster's node.
const strangerRest = 30 * time.Second

// unreachableRest is how long an address rests at first, and at most, that a node
// is said to have and that nobody was met at.
const (
	unreachableRest    = time.Second
	unreachableRestMax = 30 * time.Second
)

// ended takes the end of a stream in: what has no answer may be accepted or not.
// A stream that was refused as a whole accepted nothing.
func (s *pipe) ended(answered bool, err error) {
	p := s.p
	if p.c.ctx.Err() != nil {
		return // all ends, and knows why
	}
	p.c.cfg.logger.Info("publish stream ended", "address", s.addr, "error", err)
	p.mu.Lock()
	if answered {
		s.failures = 0
	}
	s.failures++
	s.rest = time.Now().Add(s.pause(err))
	s.running, s.up, s.idle, s.cluster, s.node = false, false, false, "", ""
	p.renode()
	var done []completion
	if ErrorCode(err) == CodeInvalidArgument {
		done = p.blame(s, err, done)
	}
	done = s.lost(fatal(err) && !answered, done)
	p.replace()
	alone := p.anyUp() == nil
	p.wake()
	p.mu.Unlock()
	p.complete(done)
	if fatal(err) && alone {
		p.refuseAll(err)
	}
}

// lost ends the tries that have no answer. refused says that none was taken.
func (s *pipe) lost(refused bool, done []completion) []completion {
	seen := make(map[*lane]bool)
	s.slots.Each(func(t slot) {
		if t.round != t.lane.round {
			return
		}
		seen[t.lane] = true
		if refused {
			t.lane.Answer(t.key, order.Answer{Verdict: order.Away})
		}
	})
	s.slots.Reset()
	for l := range seen {
		l.Lost()
		done = s.p.advance(l, done)
	}
	return done
}

// pause is how long the address rests.
func (s *pipe) pause(err error) time.Duration {
	retry := s.p.c.cfg.retry
	switch {
	case errors.Is(err, errStranger):
		return strangerRest
	case !s.given && !s.known && s.p.atlas != nil:
		retry.Min, retry.Max = unreachableRest, unreachableRestMax
		return retry.wait(s.failures, 0)
	}
	return retry.reconnect(s.failures, err)
}
