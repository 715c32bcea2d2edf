package actors

import (
	"context"
	"time"
)

// The bounds of a pull.
const (
	defaultPull = 32
	maxPull     = 1024
)

// PullConfig is one round of Work.
type PullConfig struct {
	Group string
	// Max packets: 1 to 1,024; 0: 32.
	Max uint32
	// WaitMs for a first packet: at most the service's MaxWait.
	WaitMs uint32
	// LeaseMs is 1,000 to 43,200,000; 0: the group's.
	LeaseMs uint32
	// Worker is as in SessionConfig. Its open grants come first, and alone.
	Worker string
}

// Pull waits for packets of a group and returns what there is: none when the wait
// is over. It returns ctx's error if that ends first; what was granted until then
// and not returned goes back.
func (d *DeliveryService) Pull(ctx context.Context, cfg PullConfig) ([]Delivery, error) {
	if cfg.Max > maxPull {
		return nil, invalid("max", "must be at most 1,024")
	}
	if time.Duration(cfg.WaitMs)*time.Millisecond > d.cfg.MaxWait {
		return nil, invalid("wait_ms", "must be at most "+d.cfg.MaxWait.String())
	}
	if cfg.Max == 0 {
		cfg.Max = defaultPull
	}
	h, redelivered, err := d.attach(ctx, SessionConfig{Group: cfg.Group, Worker: cfg.Worker, LeaseMs: cfg.LeaseMs}, true)
	if err != nil {
		return nil, err
	}
	defer h.finish()
	if redelivered == 0 {
		h.SetCredit(uint32(h.Held()) + cfg.Max)
	}
	wait := time.Duration(cfg.WaitMs) * time.Millisecond
	return h.collect(ctx, int(cfg.Max), wait)
}

// coldWait is how long a pull waits, whatever its own wait, for partitions that
// have not had their say yet: else what is there would not be found. An answer
// that has nothing waits for as long beyond its own wait.
const coldWait = 2 * time.Second

// collect takes packets until all that there is for the session's credit is there
// or one answer has enough bytes, or the wait is over.
func (h *Session) collect(ctx context.Context, most int, wait time.Duration) ([]Delivery, error) {
	var out []Delivery
	start, room := time.Now(), h.s.g.d.cfg.TakeBytes
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		// Asked before Take: what is decided after that signals again.
		pending := h.Pending()
		n := len(out)
		out = h.take(most-n, room, out)
		for i := n; i < len(out); i++ {
			room -= len(out[i].Packet)
		}
		waited, patience := time.Since(start), wait
		switch {
		case len(out) > 0 && pending:
			patience = max(wait, coldWait)
		case len(out) > 0:
			return out, nil
		case pending && waited >= wait:
			patience = wait + coldWait
		}
		if len(out) >= most || room <= 0 || waited >= patience { // what is left in the queue is for another pull
			return out, nil
		}
		timer.Reset(patience - waited)
		select {
		case <-h.ready:
		case <-timer.C:
		case <-ctx.Done():
			if len(out) > 0 {
				return out, nil
			}
			return nil, ctx.Err()
		case <-h.done:
			if len(out) > 0 {
				return out, nil
			}
			return nil, h.Err()
		}
	}
}

// finish ends a pull. What was granted to it and not returned goes back, but not
// what its worker held before: that waits for the worker's next pull.
func (h *Session) finish() {
	s := h.s
	s.mu.Lock()
	own := s.handle == h
	if own {
		s.draining = true
	}
	s.mu.Unlock()
	if own {
		s.release(s.named)
	}
	s.detach(h, nil)
}

// Settle ends deliveries of a group, whichever session they were made to, and
// returns an outcome for each. A settlement whose turn has not come when the
// service's SettleWait is over is answered UNAVAILABLE; it takes effect with the
// packets before it. It blocks until then, or until ctx ends.
func (d *DeliveryService) Settle(ctx context.Context, group string, list []Settlement) ([]SettlementOutcome, error) {
	g, err := d.known(group)
	if err != nil {
		return nil, err
	}
	answers := make(chan []SettlementOutcome, len(list))
	g.settle(nil, list, func(part []SettlementOutcome) { answers <- part })
	out := make([]SettlementOutcome, len(list))
	for i := range list {
		out[i] = SettlementOutcome{Index: i, Repo: list[i].Repo, Seq: list[i].Seq, Refusal: refusedEarly}
	}
	timer := time.NewTimer(d.cfg.SettleWait)
	defer timer.Stop()
	for n := 0; n < len(list); {
		select {
		case part := <-answers:
			for _, x := range part {
				out[x.Index] = x
			}
			n += len(part)
		case <-timer.C:
			return out, nil
		case <-d.stopping:
			return nil, refusedStopping
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return out, nil
}

// refusedEarly answers a settlement that waits for the packets before its own.
var refusedEarly = &Refusal{
	Code: CodeUnavailable, Field: "sequence", RetryAfter: time.Second,
	Message: "packets before this one in its lease are not settled yet: it takes effect with them; settle in order, or settle again later",
}

// Renew prolongs leases of a group, whichever session holds them, and returns an
// outcome for each. It blocks until a majority confirmed that this node leads, or
// until ctx ends.
func (d *DeliveryService) Renew(ctx context.Context, group string, list []LeaseRef) ([]RenewOutcome, error) {
	g, err := d.known(group)
	if err != nil {
		return nil, err
	}
	answers := make(chan []RenewOutcome, len(list))
	g.renew(list, func(part []RenewOutcome) { answers <- part })
	out := make([]RenewOutcome, len(list))
	for n := 0; n < len(list); {
		select {
		case part := <-answers:
			for _, x := range part {
				out[x.Index] = x
			}
			n += len(part)
		case <-d.stopping:
			return nil, refusedStopping
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return out, nil
}
