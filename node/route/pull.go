package route

import (
	"context"
	"time"

	"github.com/waystation/waystation/actors"
)

// The bounds of a pull, as in actors; what is beyond them is refused there.
const (
	defaultPull = 32
	maxPull     = 1024
	maxWaitMs   = 60_000
	// pullBytes ends a pull whose packets have as many bytes.
	pullBytes = 3 << 20
	// coldWait is how long a pull waits, whatever its own wait, for nodes that have
	// not had their say yet.
	coldWait = 2 * time.Second
)

// Pull implements api.Delivery: a short session over all nodes. A worker's open
// grants come first, and alone.
func (x routedDelivery) Pull(ctx context.Context, cfg actors.PullConfig) ([]actors.Delivery, error) {
	r := x.r
	if !r.table.Load().elsewhere || cfg.Max > maxPull || cfg.WaitMs > maxWaitMs {
		return r.delivery.Pull(ctx, cfg)
	}
	if cfg.Max == 0 {
		cfg.Max = defaultPull
	}
	s, err := r.openWith(ctx, actors.SessionConfig{Group: cfg.Group, Worker: cfg.Worker, LeaseMs: cfg.LeaseMs}, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		s.Drain()
		s.Close()
	}()
	p := &pull{s: s, most: int(cfg.Max), wait: time.Duration(cfg.WaitMs) * time.Millisecond, begun: time.Now()}
	p.timer = time.NewTimer(coldWait)
	defer p.timer.Stop()
	if err := p.meet(ctx); err != nil {
		return nil, err
	}
	return p.collect(ctx)
}

// pull is one round of work.
type pull struct {
	s     *session
	most  int
	wait  time.Duration
	begun time.Time
	timer *time.Timer
	again int // packets that the worker gets again; then there are no others
}

// meet waits until every node was heard of, or has had its time, and lends the
// credit if the worker holds nothing.
func (p *pull) meet(ctx context.Context) error {
	for {
		all, again := p.s.met()
		if p.again = again; all || time.Since(p.begun) >= coldWait {
			break
		}
		if err := p.sleep(ctx, coldWait-time.Since(p.begun)); err != nil {
			return err
		}
	}
	if p.again == 0 {
		p.s.SetCredit(uint32(p.most))
	}
	return nil
}

// collect takes packets until all that there is for the credit is there, or the
// wait is over.
func (p *pull) collect(ctx context.Context) (out []actors.Delivery, err error) {
	room := pullBytes
	for {
		n := len(out)
		out = p.s.Take(p.most-n, out)
		pending := p.pending(len(out)) // after Take: it may have had the last of what is lent
		for i := n; i < len(out); i++ {
			room -= len(out[i].Packet)
		}
		patience := p.wait
		switch {
		case len(out) > 0 && !pending, len(out) >= p.most, room <= 0:
			return out, nil
		case len(out) > 0:
			patience = max(p.wait, coldWait)
		case pending:
			patience = p.wait + coldWait
		}
		left := patience - time.Since(p.begun)
		if left <= 0 {
			return out, nil
		}
		if err := p.sleep(ctx, left); err != nil {
			if len(out) > 0 {
				return out, nil //nolint:nilerr // what is leased is the worker's
			}
			return nil, err
		}
	}
}

// pending says whether more may come at once.
func (p *pull) pending(got int) bool {
	if p.again > 0 {
		return got < p.again
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return p.s.lent > 0 || len(p.s.queue) > 0
}

// sleep waits for news of the session, for d at most.
func (p *pull) sleep(ctx context.Context, d time.Duration) error {
	p.timer.Reset(d)
	select {
	case <-p.s.Ready():
		return nil
	case <-p.timer.C:
		return nil
	case <-p.s.Done():
		return p.s.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// met says whether every sub-session was opened or failed to, and how many packets
// the worker gets again.
func (s *session) met() (all bool, again int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, again = true, s.local.Redelivered()
	for _, x := range s.subs {
		all = all && x.tried
		again += x.again
	}
	return all, again
}
