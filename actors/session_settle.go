package actors

import (
	"unicode/utf8"

	"github.com/waystation/waystation/actors/lease"
	"github.com/waystation/waystation/actors/repository"
)

const (
	maxSettleError  = 4 << 10
	maxSettleResult = 1 << 20
	maxRetryAfterMs = 24 * 60 * 60 * 1000
	maxRepoName     = 512
)

// The refusals of settlements and renewals.
var (
	refusedStale = &Refusal{
		Code: CodeStaleLease, Field: "lease_token",
		Message: "the lease is over: the packet goes to whoever holds the repository next",
	}
	refusedOver = &Refusal{
		Code: CodeStaleLease, Field: "sequence",
		Message: "the lease ended before this packet, with a failure or a release: it is delivered again",
	}
	refusedForeign = &Refusal{
		Code: CodeInvalidArgument, Field: "sequence",
		Message: "the lease holds no such packet",
	}
	refusedConflict = &Refusal{
		Code: CodeInvalidArgument, Field: "outcome",
		Message: "the packet was settled with another outcome before",
	}
	refusedLoading = &Refusal{
		Code: CodeUnavailable, RetryAfter: retrySoon,
		Message: "the partition's leader is still finding its leases; send again",
	}
	refusedSettleUnknown = &Refusal{
		Code: CodeUnknown, RetryAfter: retrySoon,
		Message: "the outcome is unknown; settle again under the same token",
	}
)

// settleCall is one call of Settle; ticket is one of its settlements.
type settleCall struct{ done func([]SettlementOutcome) }

type ticket struct {
	call  *settleCall
	index int32
}

type reply struct {
	call *settleCall
	out  SettlementOutcome
}

// settle takes settlements of the group from whoever shows the right tokens: s,
// or nobody's session in particular. Those that end leases and the grants that
// the freed credit allows are enqueued together.
func (g *consumers) settle(s *session, list []Settlement, done func([]SettlementOutcome)) {
	call := &settleCall{done: done}
	ws := g.d.workset()
	if s != nil {
		s.alive()
	}
	for i := range list {
		x := &list[i]
		t := ticket{call, int32(i)}
		if refusal := x.check(); refusal != nil {
			ws.refuse(t, x.Repo, x.Seq, refusal)
			continue
		}
		g.settleOne(ws, s, x, t)
	}
	var filled *session
	for i, l := range ws.touched {
		if i > 0 && l == ws.touched[i-1] {
			continue
		}
		l.mu.Lock()
		l.advance(ws)
		again := l.more && l.batch.Ends()
		l.mu.Unlock()
		if again {
			ws.again = append(ws.again, l)
		}
		if l.s != filled {
			filled = l.s
			filled.fill(ws)
		}
	}
	for _, l := range ws.again {
		l.s.goOn(ws, l)
	}
	ws.submit()
}

func (x *Settlement) check() *Refusal {
	switch {
	case x.Repo == "" || len(x.Repo) > maxRepoName || !utf8.ValidString(x.Repo):
		return invalid("repo_id", "must be 1 to 512 bytes of UTF-8")
	case x.Seq == 0:
		return invalid("sequence", "must be at least 1")
	case x.Token == 0:
		return invalid("lease_token", "must be the delivery's")
	case x.Outcome < OutcomeDone || x.Outcome > OutcomeDead:
		return invalid("outcome", "must be done, retry or dead")
	case len(x.Error) > maxSettleError || !utf8.ValidString(x.Error):
		return invalid("error", "must be at most 4 KiB of UTF-8")
	case len(x.Result) > maxSettleResult:
		return invalid("result", "must be at most 1 MiB")
	case len(x.Result) > 0 && x.Outcome != OutcomeDone:
		return invalid("result", "goes with the outcome done only")
	case x.RetryAfterMs > 0 && x.Outcome != OutcomeRetry:
		return invalid("retry_after_ms", "goes with the outcome retry only")
	case x.RetryAfterMs > maxRetryAfterMs:
		return invalid("retry_after_ms", "must be at most a day")
	}
	return nil
}

// settleOne gives one settlement to its lease's batch.
func (g *consumers) settleOne(ws *workset, s *session, x *Settlement, t ticket) {
	k := g.d.keeper(x.Repo)
	var l *openLease
	if n := len(ws.touched); n > 0 && ws.touched[n-1].repo == x.Repo && ws.touched[n-1].token == x.Token {
		l = ws.touched[n-1] // the packets of a lease come together
	} else {
		var serving bool
		if l, serving = k.find(g.id, x.Repo); !serving {
			ws.refuse(t, x.Repo, x.Seq, k.absent())
			return
		}
	}
	if l == nil || l.token != x.Token {
		g.settleLate(ws, s, k, x, t)
		return
	}
	result := x.Result
	if len(result) > 0 {
		l.mu.Lock()
		ref, held := l.batch.Ref(x.Seq)
		l.mu.Unlock()
		if held {
			result = k.left(ref, result)
		}
	}
	l.mu.Lock()
	unseen := 0 // packets that a failure keeps from being handed out
	if x.Outcome != OutcomeDone {
		unseen = l.batch.Pending()
	}
	verdict, freed := l.batch.Settle(x.Seq, lease.Outcome(x.Outcome), lease.Why{Text: []byte(x.Error), AfterMs: uint64(x.RetryAfterMs)}, result, t)
	if unseen > 0 {
		unseen -= l.batch.Pending()
	}
	l.mu.Unlock()
	if freed > 0 {
		l.s.mu.Lock()
		l.s.credit.Alive()
		l.s.credit.Release(freed)
		l.s.unspent(l.by, unseen)
		l.s.mu.Unlock()
	}
	switch verdict {
	case lease.Taken:
		ws.touched = append(ws.touched, l)
	case lease.Repeated:
		ws.refuse(t, x.Repo, x.Seq, nil)
	case lease.Conflict:
		ws.refuse(t, x.Repo, x.Seq, refusedConflict)
	case lease.Foreign:
		ws.refuse(t, x.Repo, x.Seq, refusedForeign)
	case lease.Over:
		ws.refuse(t, x.Repo, x.Seq, refusedOver)
	}
}

// absent is why the partition takes no settlement at the moment.
func (k *keeper) absent() *Refusal {
	if k.leads() {
		return refusedLoading
	}
	return refusedNotLeader
}

// settleLate is for a token that is no open lease's: only Apply knows whether it
// says again what ended the lease, which is fine, or is stale.
func (g *consumers) settleLate(ws *workset, s *session, k *keeper, x *Settlement, t ticket) {
	live := false
	err := k.p.View(func(m *repository.Machine) error {
		info, err := m.Lane(g.id, bytesOf(x.Repo))
		live = info.Token == x.Token
		return err
	})
	switch {
	case err != nil:
		k.d.log.Error("look up lease", "partition", k.p.ID(), "repository", x.Repo, "error", err)
		ws.refuse(t, x.Repo, x.Seq, refusedInternal)
		return
	case live: // granted, and not known here yet: its packets may not be settled out of their order
		ws.refuse(t, x.Repo, x.Seq, refusedLoading)
		return
	}
	op := g.d.newSettle()
	op.s, op.k, op.late, op.repo, op.seq = s, k, t, x.Repo, x.Seq
	op.cmd = repository.Settle{Group: g.id, Repo: bytesOf(x.Repo), Token: x.Token}
	switch x.Outcome {
	case OutcomeDone:
		op.cmd.Through = x.Seq
	case OutcomeRetry:
		op.cmd.Kind, op.cmd.Failed = repository.SettleRetry, x.Seq
	case OutcomeDead:
		op.cmd.Kind, op.cmd.Failed = repository.SettleDead, x.Seq
	}
	if s != nil {
		s.refs.Add(1)
	}
	ws.settles = append(ws.settles, op)
}

// goOn asks for the next grant of a lane whose lease ends with the settlement in
// ws, unless other lanes wait for the session: then it gets its turn after them.
func (s *session) goOn(ws *workset, l *openLease) {
	if s.g.ready.Load() > 0 {
		return
	}
	k := l.k
	s.mu.Lock()
	n, leaseMs, by := 0, s.leaseMs, s.handle
	if s.handle != nil && !s.draining {
		n = s.reserve(int(s.maxBatch))
	}
	s.reserved += n
	s.mu.Unlock()
	if n == 0 {
		return
	}
	k.mu.Lock()
	w, term := k.windows[s.g.id], k.term
	var lane *lease.Lane
	ok := false
	if w != nil && k.serving {
		if lane, ok = w.Claim(l.repo, repository.RankNormal); ok {
			w.publish()
		}
	}
	k.mu.Unlock()
	if !ok {
		s.mu.Lock()
		s.reserved -= n
		s.credit.Release(n)
		s.unspent(by, n)
		s.mu.Unlock()
		return
	}
	s.grant(ws, &pick{k, w, lane, term}, by, n, leaseMs)
}
