package client

import "time"

const (
	// secondTry is how long one address alone is tried while nothing else is
	// connected.
	secondTry = 300 * time.Millisecond
	// astrayAfter is after how many refusals in a row, each for want of a leader,
	// another node is asked for its word.
	astrayAfter = 3
)

// run keeps the publisher's waits and pipes until the client is closed.
func (p *publisher) run() {
	defer close(p.stopped)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for p.c.ctx.Err() == nil {
		timer.Reset(p.tend(time.Now()))
		select {
		case <-p.wakeup:
		case <-timer.C:
		case <-p.c.ctx.Done():
		}
	}
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.streams.Wait()
	p.endAll()
}

// wake has the keeper look again.
func (p *publisher) wake() {
	select {
	case p.wakeup <- struct{}{}:
	default:
	}
}

// tend does what is due, and returns how long nothing else is.
func (p *publisher) tend(now time.Time) time.Duration {
	next := time.Hour
	sooner := func(d time.Duration) {
		if d > 0 {
			next = min(next, d)
		}
	}
	p.giveUpOld()
	if g := p.c.cfg.retry.GiveUpAfter; g > 0 {
		sooner(max(g/4, time.Millisecond))
	}
	wait, done := p.overdue(now)
	sooner(wait)
	p.mu.Lock()
	wait, done = p.resume(now, done)
	sooner(wait)
	sooner(p.survey(now))
	for _, s := range p.pipes {
		if s.idle && s.ready.head != nil {
			s.wake()
		}
	}
	p.mu.Unlock()
	p.complete(done)
	return next
}

// survey opens the streams that are wanted and may be tried now, and returns when
// the next one may; 0 for not before something happens.
func (p *publisher) survey(now time.Time) (next time.Duration) {
	try := func(s *pipe) {
		if s == nil || s.running {
			return
		}
		if d := s.rest.Sub(now); d > 0 {
			if next == 0 || d < next {
				next = d
			}
			return
		}
		s.start(now)
	}
	for _, s := range p.pipes {
		if s.ready.head != nil {
			try(s)
		}
	}
	p.seekLeaders(try)
	if p.open == 0 {
		return next
	}
	if p.anyUp() == nil {
		newest := time.Time{}
		for _, s := range p.pipes {
			if s.running && s.begun.After(newest) {
				newest = s.begun
			}
		}
		if d := newest.Add(secondTry).Sub(now); d > 0 {
			if next == 0 || d < next {
				next = d
			}
		} else {
			try(p.nextTarget(now))
		}
	}
	if p.astray {
		p.astray = false
		if s := p.nextTarget(now); s != nil && now.After(s.rest) {
			try(s)
		}
	}
	return next
}

// seekLeaders tries to reach the leaders to which there is no stream: where they
// are said to be, and if they are not to be met there, at the addresses that the
// caller gave: behind a NAT only those lead anywhere. As long as there is nothing
// to send, each is tried once.
func (p *publisher) seekLeaders(tryNow func(*pipe)) {
	if p.atlas == nil {
		return
	}
	try := func(s *pipe) {
		if p.open > 0 || s.begun.IsZero() {
			tryNow(s)
		}
	}
	elsewhere := false
	for _, l := range p.atlas.leaders {
		if l.node == "" || p.nodes[l.node] != nil {
			continue
		}
		addr := p.atlas.addrs[l.node]
		if addr == "" {
			elsewhere = true
			continue
		}
		s := p.pipeTo(addr)
		elsewhere = elsewhere || s.failures > 0
		try(s)
	}
	if !elsewhere {
		return
	}
	for _, addr := range p.link.known() {
		if p.link.named(addr) {
			try(p.pipeTo(addr))
		}
	}
}

// resume ends the waits that are over, and returns how long the next one lasts.
func (p *publisher) resume(now time.Time, done []completion) (time.Duration, []completion) {
	for l := p.delayed.first(); l != nil; l = p.delayed.first() {
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

func (p *publisher) giveUpOld() {
	g := p.c.cfg.retry.GiveUpAfter
	if g == 0 {
		return
	}
	now := time.Now()
	p.giveUp(func(it *item) bool { return now.Sub(it.since) > g })
}
