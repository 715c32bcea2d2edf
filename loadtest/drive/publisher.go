package drive

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/history"
	"github.com/waystation/waystation/loadtest/report"
	"github.com/waystation/waystation/loadtest/verify"
	"github.com/waystation/waystation/loadtest/workload"
)

// Sender is what a publisher needs of a client.
type Sender interface {
	PublishAsync(ctx context.Context, p *client.Packet, done func(client.Receipt, error)) error
	Flush(ctx context.Context) error
}

// publisher sends a stream's packets and notes what becomes of each. It is one
// goroutine, so that a repository's packets leave in the order of their indexes.
type publisher struct {
	sender   Sender
	stream   workload.Stream
	verifier *verify.Verifier
	names    *names
	clock    clock
	// rate in packets per second; 0 is a closed loop.
	rate   float64
	withID bool
	// before and after are the shares of packets that go to resends as well: while
	// their receipt is on its way, and once it is there.
	before, after float64
	resends       resender
	// owed is how many packets should have been resent before their receipt and
	// could not: others are, in their place.
	owed   int
	random *rand.Rand
	// backlog bounds what is acknowledged and not settled in a closed loop; 0: no bound.
	backlog int64

	ack     *meter
	gap     *report.Gap
	outages *outages
	history *history.Recorder

	slots slots
	// lastErr is the newest packet's that got none but an error.
	lastErr atomic.Pointer[error]
}

// meter takes latencies of what was due while figures were taken.
type meter struct {
	latency    *report.Latency
	begin, end time.Duration
}

func (m *meter) record(key int, due, took time.Duration) {
	if due >= m.begin && due < m.end {
		m.latency.Record(key, took)
	}
}

// run sends until ctx ends. It errs when the stream does or the sender takes nothing any more.
func (p *publisher) run(ctx context.Context) error {
	p.slots.fill(p)
	begin := p.clock.now()
	for n := 0; ; {
		free := p.slots.take(ctx)
		if free == nil {
			return nil
		}
		for i, s := range free {
			due, ok := p.due(ctx, begin, n)
			if !ok {
				p.slots.give(free[i:]...)
				return nil
			}
			if err := p.send(ctx, s, due); err != nil {
				p.slots.give(free[i:]...)
				return err
			}
			n++
		}
	}
}

// due waits until packet n is to be sent and returns that time, or false when ctx ended first.
func (p *publisher) due(ctx context.Context, begin time.Duration, n int) (time.Duration, bool) {
	now := p.clock.now()
	if p.rate > 0 {
		due := begin + time.Duration(float64(n)/p.rate*float64(time.Second))
		return due, sleep(ctx, due-now)
	}
	// The loop closes over the workers too: else their backlog would only grow.
	for p.backlog > 0 && p.verifier.Live().Open >= p.backlog {
		if !sleep(ctx, time.Millisecond) {
			return 0, false
		}
		now = p.clock.now()
	}
	return now, ctx.Err() == nil
}

func (p *publisher) send(ctx context.Context, s *slot, due time.Duration) error {
	item, err := p.stream.Next(s.buf)
	if err != nil {
		return err
	}
	if item.Own {
		s.buf = item.Content
	}
	s.repo, s.due = item.Repo, due
	var safe bool
	s.index, safe = p.verifier.Send(item.Repo, verify.TickOf(due))
	p.names.dress(&s.packet, item, s.index, p.withID)
	p.history.Send(item.Repo, s.index, p.clock.now())
	p.plan(s, p.random.Float64(), safe || p.withID)
	// The packet counts as sent from here on, so the end of the load must not
	// cut it short: the client has room for what there are slots for.
	if err := p.sender.PublishAsync(context.WithoutCancel(ctx), &s.packet, s.done); err != nil {
		p.verifier.Reject(s.repo, s.index)
		return fmt.Errorf("publish: %w", err)
	}
	if s.resend == resendBefore {
		p.resends.again(s)
	}
	return nil
}

// plan draws from u, uniform in [0, 1), whether and when a packet is sent again.
// Before its receipt, a second connection may carry it only if it is safe: if the
// packet in front has its receipt. Else it could come too early there, and be
// refused as a gap, for both copies.
func (p *publisher) plan(s *slot, u float64, safe bool) {
	s.tries, s.resend = 0, resendNever
	s.holders.Store(1)
	switch {
	case u < p.before:
		p.owed++
	case u < p.before+p.after:
		s.resend = resendAfter
		return
	}
	switch {
	case p.owed > 0 && safe:
		p.owed--
		s.resend = resendBefore
		s.holders.Store(2)
	case p.owed > maxOwed:
		// With many of a repository in flight it hardly ever is. The share is what
		// was asked for.
		p.owed--
		s.resend = resendAfter
	}
}

const maxOwed = 16

// resender sends a slot's packet a second time under the same id or position,
// tells the verifier the answer, and releases the slot. again never blocks.
type resender interface{ again(s *slot) }
