package actors

import (
	"errors"

	"github.com/waystation/waystation/actors/repository"
)

// settleOp is a settlement on its way. It is pooled.
type settleOp struct {
	s      *session // may be nil for a late one
	k      *keeper
	l      *openLease // nil for a late one
	step   uint32
	expire bool
	late   ticket
	repo   string
	seq    repository.Seq
	cmd    repository.Settle
	out    repository.SettleOutcome
	err    error
	fn     func(repository.SettleOutcome, error)
}

func (d *DeliveryService) newSettle() *settleOp {
	op, _ := d.settleOps.Get().(*settleOp)
	if op == nil {
		op = &settleOp{}
		op.fn = op.done // once, so that a settlement does not allocate it
	}
	return op
}

func (op *settleOp) done(out repository.SettleOutcome, err error) {
	op.out, op.err = out, err
	if op.s != nil {
		op.s.post(op)
		return
	}
	ok := op.k.d.spawn(func() {
		ws := op.k.d.workset()
		op.finish(ws)
		ws.submit()
	})
	if !ok {
		op.late.call.done([]SettlementOutcome{{Index: int(op.late.index), Repo: op.repo, Seq: op.seq, Refusal: refusedStopping}})
	}
}

func (op *settleOp) finish(ws *workset) {
	switch {
	case op.l == nil:
		ws.refuse(op.late, op.repo, op.seq, op.refusal())
	case op.expire:
		op.finishExpiry()
	default:
		op.finishStep(ws)
	}
	s, d := op.s, op.k.d
	*op = settleOp{fn: op.fn}
	d.settleOps.Put(op)
	if s != nil {
		s.drop()
	}
}

// refusal is why the settlement did not take effect; nil: it did.
func (op *settleOp) refusal() *Refusal {
	var r *Refusal
	switch {
	case errors.As(op.err, &r):
		if r.Code == CodeUnknown {
			return refusedSettleUnknown
		}
		return r
	case op.err != nil:
		return refusedSettleUnknown
	}
	switch op.out.Code {
	case repository.OK:
		return nil
	case repository.Stale, repository.UnknownGroup: // the group was deleted
		return refusedStale
	case repository.Void:
		return refusedNotLeader
	}
	return refusedInternal
}

func (op *settleOp) finishExpiry() {
	l := op.l
	switch {
	case op.err != nil || op.out.Code == repository.Void:
		l.k.rearm(l)
	case op.out.Code == repository.OK:
		l.k.d.metrics.expired.Inc()
		l.lose()
	default: // it ended otherwise meanwhile, and its session hears of that
		l.k.d.log.Debug("expire lease", "partition", l.k.p.ID(), "code", op.out.Code)
	}
}

// lose ends a lease that ran out: what its worker has stays charged to its credit
// until the worker says something.
func (l *openLease) lose() {
	ws := l.k.d.workset()
	l.k.forget(l)
	l.mu.Lock()
	answers, held, unseen := l.batch.End(ws.answers[:0])
	ws.answers = answers
	ws.answer(l, refusedStale)
	l.mu.Unlock()
	s := l.s
	s.mu.Lock()
	linked := s.unlink(l)
	s.credit.Lose(held)
	s.credit.Release(unseen)
	s.giveBack(l, unseen)
	s.mu.Unlock()
	ws.submit()
	if linked {
		s.drop()
	}
}

func (op *settleOp) finishStep(ws *workset) {
	l, refusal := op.l, op.refusal()
	l.mu.Lock()
	if !l.batch.Current(op.step) {
		l.mu.Unlock()
		return // given up meanwhile, and answered
	}
	if refusal == nil {
		op.applied(ws)
		return
	}
	if op.err != nil || op.out.Code == repository.Void {
		ws.answers = l.batch.Failed(ws.answers[:0])
		ws.fail(l, refusal)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	if op.out.Code != repository.Stale && op.out.Code != repository.UnknownGroup {
		l.k.d.log.Error("settle lease", "partition", l.k.p.ID(), "repository", l.repo, "group", l.s.g.cfg.Load().Name,
			"token", uint64(l.token), "code", op.out.Code, "error", "not a settlement of its lease")
		l.giveBack(ws)
	}
	l.end(refusal)
}

// giveBack proposes to release what is left of a lease, so that the lane does not
// stand still until it runs out.
func (l *openLease) giveBack(ws *workset) {
	op := l.k.d.newSettle()
	op.k, op.repo = l.k, l.repo
	op.late = ticket{call: &settleCall{done: func([]SettlementOutcome) {}}}
	op.cmd = repository.Settle{Group: l.s.g.id, Repo: bytesOf(l.repo), Token: l.token, Kind: repository.SettleRelease}
	ws.settles = append(ws.settles, op)
}

// applied goes on after a step that took effect. It is called with l.mu held and
// gives it up.
func (op *settleOp) applied(ws *workset) {
	l := op.l
	answers, settled := l.batch.Applied(op.out.Ended, ws.answers[:0])
	ws.answers = answers
	ws.answer(l, refusedOver)
	var t tally
	now := l.k.d.mono()
	for i := range settled {
		if at := settled[i].HandedAt; at > 0 {
			t.add(now - at)
		}
	}
	l.s.g.processed.add(&t)
	if !op.out.Ended {
		l.advance(ws)
		l.mu.Unlock()
		l.k.prolong(l)
		return
	}
	_, held, unseen := l.batch.End(nil)
	l.mu.Unlock()
	l.k.forget(l)
	s := l.s
	s.mu.Lock()
	linked := s.unlink(l)
	s.credit.Release(held + unseen)
	s.giveBack(l, unseen)
	s.mu.Unlock()
	if linked {
		s.drop() // op holds another reference
	}
}

// refuse notes the answer to a settlement; nil: it took effect.
func (ws *workset) refuse(t ticket, repo string, seq repository.Seq, why *Refusal) {
	ws.replies = append(ws.replies, reply{t.call, SettlementOutcome{Index: int(t.index), Repo: repo, Seq: seq, Refusal: why}})
}

// answer notes ws.answers: those that are over are refused with why, or as
// refusedOver; the others took effect.
func (ws *workset) answer(l *openLease, why *Refusal) {
	if why == nil {
		why = refusedOver
	}
	for _, a := range ws.answers {
		refusal := why
		if !a.Over {
			refusal = nil
		}
		ws.refuse(a.Ticket, l.repo, a.Seq, refusal)
	}
	clear(ws.answers)
}

// fail refuses all of ws.answers.
func (ws *workset) fail(l *openLease, why *Refusal) {
	for _, a := range ws.answers {
		ws.refuse(a.Ticket, l.repo, a.Seq, why)
	}
	clear(ws.answers)
}

// reply gives the answers, those of one call together as far as they stand together.
func (ws *workset) reply() {
	for i := 0; i < len(ws.replies); {
		n := 1
		for i+n < len(ws.replies) && ws.replies[i+n].call == ws.replies[i].call {
			n++
		}
		out := make([]SettlementOutcome, n)
		for j := range out {
			out[j] = ws.replies[i+j].out
		}
		ws.replies[i].call.done(out)
		i += n
	}
	clear(ws.replies)
	ws.replies = ws.replies[:0]
}
