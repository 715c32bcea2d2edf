package client

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// Every lane is pinned to one pipe: the one to its partition's leader, where that
// is known and there is a stream to it, else the one to the entry, which is any
// node that takes packets for all. A lane changes its pipe only with nothing in
// flight: it waits for the answers to what it sent on the old one, but for no
// longer than maxDrain, as a node that was stopped, or cut off, never gives them.
// Then the positions tell what was accepted from what was not.

// maxDrain is far above what a living node takes to answer, or to refuse what it
// can no longer accept.
const maxDrain = 150 * time.Millisecond

// remap takes a new atlas in.
func (p *publisher) remap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.c.atlas.Load()
	if p.atlas == next {
		return
	}
	old := p.atlas
	p.atlas = next
	p.remapped()
	p.hurry(old)
	p.wake()
}

// remapped finds out again which pipe leads to which node, and then where the
// lanes belong.
func (p *publisher) remapped() {
	p.renode()
	p.replace()
}

func (p *publisher) renode() {
	clear(p.nodes)
	for _, addr := range slices.Sorted(maps.Keys(p.pipes)) {
		if s := p.pipes[addr]; s.up && s.node != "" && p.atlas != nil && s.cluster == p.atlas.cluster && p.nodes[s.node] == nil {
			p.nodes[s.node] = s
		}
	}
	p.lacking = p.atlas != nil && slices.ContainsFunc(p.atlas.leaders, func(l leader) bool { return l.node != "" && p.nodes[l.node] == nil })
}

// replace looks for every lane where it belongs: now for those that have
// something to do, when they do for the others.
func (p *publisher) replace() {
	p.version++
	for _, l := range p.lanes {
		if !l.Idle() {
			p.place(l)
		}
	}
}

// place pins a lane where it belongs, or begins to drain it first.
func (p *publisher) place(l *lane) {
	l.version = p.version
	want := p.want(l)
	switch {
	case want == l.pipe:
		l.moving = false
		p.list(l)
		if l.listed {
			want.nudge()
		}
	case l.Open() == 0:
		p.pin(l, want)
	case !l.moving:
		l.moving = true
		l.moveBy = time.Now().Add(p.c.cfg.maxDrain)
		p.unlist(l)
		if p.c.cfg.position { // else a resend could be a second packet
			p.moving = append(p.moving, l)
			p.wake()
		}
	}
}

// pin gives a lane that has nothing in flight to a pipe.
func (p *publisher) pin(l *lane, s *pipe) {
	p.unlist(l)
	l.pipe, l.moving = s, false
	if l.timed && s.usable() {
		p.soon(l)
	}
	p.list(l)
	if l.listed {
		s.nudge()
	}
}

// want is the pipe that a lane belongs to.
func (p *publisher) want(l *lane) *pipe {
	if a := p.atlas; a != nil {
		if s := p.nodes[a.leaders[a.partition(l)].node]; s != nil {
			return s
		}
	}
	// Nobody knows better than where it is: that node forwards.
	if l.pipe != nil && l.pipe.usable() {
		return l.pipe
	}
	return p.entrance(time.Now())
}

// entrance is the pipe for what has no better one.
func (p *publisher) entrance(now time.Time) *pipe {
	if p.entry != nil && p.entry.usable() {
		return p.entry
	}
	if s := p.anyUp(); s != nil {
		p.entry = s
		return s
	}
	if p.entry == nil || !p.entry.running {
		p.entry = p.nextTarget(now)
	}
	return p.entry
}

func (p *publisher) anyUp() *pipe {
	var best *pipe
	for _, s := range p.pipes {
		if s.usable() && (best == nil || s.addr < best.addr) {
			best = s
		}
	}
	return best
}

// nextTarget is the pipe to try next: that which may be tried first, of several
// the one behind the last.
func (p *publisher) nextTarget(now time.Time) *pipe {
	targets := p.link.known()
	var best *pipe
	for i := range targets {
		at := (p.turn + i) % len(targets)
		s := p.pipeTo(targets[at])
		if s.running {
			continue
		}
		if best == nil || s.rest.Before(best.rest) && best.rest.After(now) {
			best = s
		}
	}
	switch {
	case best != nil:
	case p.entry != nil: // all are being tried
		return p.entry
	default:
		best = p.pipeTo(targets[p.turn%len(targets)])
	}
	p.turn = (slices.Index(targets, best.addr) + 1) % len(targets)
	return best
}

// overdue gives the lanes up to their new pipes whose answers did not come, and
// returns how long the next one has; 0 when there is none.
func (p *publisher) overdue(now time.Time) (wait time.Duration, done []completion) {
	p.mu.Lock()
	none := len(p.moving) == 0
	p.mu.Unlock()
	if none {
		return 0, nil
	}
	p.encode.Lock() // nothing is on its way into a frame
	defer p.encode.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.moving) > 0 {
		l := p.moving[0]
		if l.moving {
			if d := l.moveBy.Sub(now); d > 0 {
				return d, done
			}
			done = p.desert(l, done)
		}
		p.moving[0] = nil
		p.moving = p.moving[1:]
	}
	p.moving = nil
	return 0, done
}

// desert has a lane wait no longer for the answers to what it sent. They may come
// still, and then say nothing new: the resend's count.
func (p *publisher) desert(l *lane, done []completion) []completion {
	l.round++
	l.Lost()
	return p.advance(l, done) // places it
}

// hurry ends the waits of lanes whose partition has another leader than in old:
// what they were refused for may be over.
func (p *publisher) hurry(old *atlas) {
	if old == nil || old.seed != p.atlas.seed || len(old.leaders) != len(p.atlas.leaders) {
		return
	}
	for _, l := range p.delayed.lanes {
		if at := p.atlas.partition(l); old.leaders[at] != p.atlas.leaders[at] {
			p.soon(l)
		}
	}
}

// soon ends a lane's wait for a leader, a little later than now, as all that waits
// for the leader does the same.
func (p *publisher) soon(l *lane) {
	at := time.Now().Add(rand.N(maxHurry))
	if l.begin || l.busy || !at.Before(l.at) {
		return
	}
	l.at = at
	p.delayed.jumbled = true
	p.wake()
}

const maxHurry = 10 * time.Millisecond
