package drive

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waystation/waystation/client"
)

// slot is one packet in flight with all that it needs, so that sending allocates nothing.
type slot struct {
	p      *publisher
	packet client.Packet
	buf    []byte
	repo   int
	index  uint32
	due    time.Duration
	done   func(client.Receipt, error)
	// resent is the resend's callback, tries how often it was sent.
	resent func(client.Receipt, error)
	tries  int
	resend resendPlan
	// holders are the original and the resend: the slot is free after both.
	holders atomic.Int32
}

type resendPlan uint8

const (
	resendNever resendPlan = iota
	// resendBefore: while the first one's receipt is on its way.
	resendBefore
	// resendAfter: once the receipt is there.
	resendAfter
)

func (s *slot) release() {
	if s.holders.Add(-1) == 0 {
		s.p.slots.give(s)
	}
}

func (s *slot) answered(r client.Receipt, err error) {
	p := s.p
	if err == nil {
		now := p.clock.now()
		p.verifier.Ack(s.repo, s.index, r.Sequence, r.Duplicate)
		p.ack.record(s.repo, s.due, now-s.due)
		p.history.Receipt(s.repo, s.index, r.Sequence, now)
		p.gap.Event(now)
		p.outages.receipt(s.repo, s.due, now)
		if s.resend == resendAfter {
			p.resends.again(s)
			return
		}
	} else {
		p.failed(s, err)
	}
	s.release()
}

// failed: only a refusal that says so means that the packet is not stored.
func (p *publisher) failed(s *slot, err error) {
	p.lastErr.Store(&err)
	switch client.ErrorCode(err) {
	case client.CodeUnknown, "":
		p.verifier.Unknown(s.repo, s.index)
	default:
		p.verifier.Reject(s.repo, s.index)
	}
}

// slots are the free ones. The publisher takes all at once, so that it meets the
// client's goroutines at the lock once a batch and not once a packet.
type slots struct {
	window int
	freed  chan struct{}

	mu   sync.Mutex
	free []*slot
	// spare is the list that was taken before, to be used again.
	spare []*slot
}

func (l *slots) fill(p *publisher) {
	l.freed = make(chan struct{}, 1)
	l.free, l.spare = make([]*slot, l.window), make([]*slot, 0, l.window)
	all := make([]slot, l.window)
	for i := range all {
		all[i].p = p
		all[i].done, all[i].resent = all[i].answered, all[i].answeredAgain
		l.free[i] = &all[i]
	}
}

// take blocks until there are free slots; nil when ctx ended first. What it
// returned before must not be used any more.
func (l *slots) take(ctx context.Context) []*slot {
	for {
		l.mu.Lock()
		taken := l.free
		if len(taken) > 0 {
			l.free, l.spare = l.spare[:0], taken
		}
		l.mu.Unlock()
		if len(taken) > 0 {
			return taken
		}
		select {
		case <-l.freed:
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *slots) give(s ...*slot) {
	l.mu.Lock()
	l.free = append(l.free, s...)
	l.mu.Unlock()
	select {
	case l.freed <- struct{}{}:
	default:
	}
}
