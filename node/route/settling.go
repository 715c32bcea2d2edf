package route

import (
	"time"

	"github.com/waystation/waystation/actors"
)

// settling is a worker's settlement that is not answered. It goes to the leader of
// its partition, and to the next one if that changes: the same settlement twice is
// fine.
type settling struct {
	number uint64
	what   actors.Settlement
	index  int
	answer func([]actors.SettlementOutcome)
	at     *sub // that it was sent to; nil: none
	begun  time.Time
}

// How long a settlement is sent again before its worker is told to, and how often.
const (
	settleLimit = 10 * time.Second
	settleAgain = 50 * time.Millisecond
)

func (x *settling) key() deliveryKey {
	return deliveryKey{leaseKey{x.what.Repo, x.what.Token}, x.what.Seq}
}

// Settle implements api.Session.
func (s *session) Settle(list []actors.Settlement, done func([]actors.SettlementOutcome)) {
	var acts actions
	now := time.Now()
	t := s.r.table.Load()
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		out := make([]actors.SettlementOutcome, len(list))
		for i := range list {
			out[i] = actors.SettlementOutcome{Index: i, Repo: list[i].Repo, Seq: list[i].Seq, Refusal: refusedRepeat}
		}
		done(out)
		return
	}
	s.book.alive(now)
	for i := range list {
		s.number++
		x := &settling{number: s.number, what: list[i], index: i, answer: done, begun: now}
		s.open[x.number] = x
		s.book.settle(x.key())
		s.direct(t, x, &acts)
	}
	s.lend()
	s.mu.Unlock()
	s.do(acts)
}

// direct sends a settlement to its partition's leader, or again later. The caller
// holds s.mu.
func (s *session) direct(t *table, x *settling, a *actions) {
	to := &t.targets[s.partitionOf(x.what.Repo)]
	x.at = nil
	if to.ok && to.local {
		x.at = s.order[0]
		a.settle = append(a.settle, x)
		return
	}
	if y := s.subs[to.node]; to.ok && y != nil && y.up {
		x.at = y
		y.settle(x)
		return
	}
	s.later()
}

// later sends again what is not on its way, in a while. The caller holds s.mu.
func (s *session) later() {
	if s.resend == nil && !s.ended {
		s.resend = time.AfterFunc(settleAgain, s.again)
	}
}

func (s *session) again() {
	t := s.r.table.Load()
	s.mu.Lock()
	s.resend = nil
	if s.ended {
		s.mu.Unlock()
		return
	}
	acts := s.reroute(t)
	var late []*settling
	now := time.Now()
	for _, x := range s.open {
		if now.Sub(x.begun) > settleLimit {
			late = append(late, x)
			s.close(x, refusedRepeat)
		}
	}
	s.mu.Unlock()
	answerAll(late, refusedRepeat)
	s.do(acts)
}

// reroute sends settlements that are nowhere, or at a node that does not lead their
// partition any more, to the one that does. The caller holds s.mu.
func (s *session) reroute(t *table) (acts actions) {
	for _, x := range s.open {
		to := &t.targets[s.partitionOf(x.what.Repo)]
		if x.at != nil && (!to.ok || to.local && !x.at.remote() || x.at.node.ID == to.node && x.at.up) {
			continue // it is where it belongs, or nobody knows better
		}
		s.direct(t, x, &acts)
	}
	return acts
}

// settleHere gives settlements to this node's own session.
func (s *session) settleHere(list []*settling) {
	what := make([]actors.Settlement, len(list))
	for i, x := range list {
		what[i] = x.what
	}
	s.local.Settle(what, func(out []actors.SettlementOutcome) {
		numbers := make([]uint64, len(out))
		refusals := make([]*actors.Refusal, len(out))
		for i := range out {
			numbers[i], refusals[i] = list[out[i].Index].number, out[i].Refusal
		}
		s.settled(nil, numbers, refusals)
	})
}

// settled takes answers to settlements from a sub-session; nil: this node's own.
func (s *session) settled(from *sub, numbers []uint64, refusals []*actors.Refusal) {
	var over []*settling
	var why []*actors.Refusal
	s.mu.Lock()
	for i, number := range numbers {
		x := s.open[number]
		if x == nil {
			continue // answered by another leader
		}
		if passes(refusals[i]) {
			if x.at == from || from == nil && x.at == s.order[0] {
				x.at = nil
				s.later()
			}
			continue
		}
		s.close(x, refusals[i])
		over = append(over, x)
		why = append(why, refusals[i])
	}
	s.lend()
	s.mu.Unlock()
	for i, x := range over {
		x.say(why[i])
	}
}

// passes says that a refusal is of a leader that does not lead, or does not know
// yet: another try will tell.
func passes(r *actors.Refusal) bool {
	return r != nil && (r.Code == actors.CodeUnavailable || r.Code == actors.CodeUnknown)
}

// close ends a settlement. The caller holds s.mu.
func (s *session) close(x *settling, why *actors.Refusal) {
	delete(s.open, x.number)
	if passes(why) {
		s.book.unsettled(x.key())
		return
	}
	stale := why != nil && why.Code == actors.CodeStaleLease
	s.book.settled(x.key(), stale || why == nil && x.what.Outcome != actors.OutcomeDone)
}

// unsettled takes all that is open. The caller holds s.mu.
func (s *session) unsettled() (list []*settling) {
	for _, x := range s.open {
		list = append(list, x)
	}
	clear(s.open)
	if s.resend != nil {
		s.resend.Stop()
	}
	return list
}

func (x *settling) say(why *actors.Refusal) {
	x.answer([]actors.SettlementOutcome{{Index: x.index, Repo: x.what.Repo, Seq: x.what.Seq, Refusal: why}})
}

func answerAll(list []*settling, why *actors.Refusal) {
	for _, x := range list {
		x.say(why)
	}
}

// renewing is a worker's renewal on its way.
type renewing struct {
	what   actors.LeaseRef
	index  int
	answer func([]actors.RenewOutcome)
}

func (x *renewing) say(expires int64, why *actors.Refusal) {
	x.answer([]actors.RenewOutcome{{Index: x.index, Repo: x.what.Repo, Token: x.what.Token, ExpiresMs: expires, Refusal: why}})
}

// Renew implements api.Session. What has no leader is refused: the worker's lease
// does not hang on one renewal.
func (s *session) Renew(list []actors.LeaseRef, done func([]actors.RenewOutcome)) {
	t := s.r.table.Load()
	var here []actors.LeaseRef
	var places []int
	var lost []*renewing
	s.mu.Lock()
	s.book.alive(time.Now())
	for i := range list {
		to := &t.targets[s.partitionOf(list[i].Repo)]
		x := &renewing{list[i], i, done}
		y := s.subs[to.node]
		switch {
		case to.ok && to.local:
			here, places = append(here, list[i]), append(places, i)
		case to.ok && y != nil && y.up && !s.ended:
			s.number++
			y.renew(s.number, x)
		default:
			lost = append(lost, x)
		}
	}
	s.mu.Unlock()
	for _, x := range lost {
		x.say(0, refusedRepeat)
	}
	if len(here) == 0 {
		return
	}
	s.local.Renew(here, func(out []actors.RenewOutcome) {
		s.mu.Lock()
		for i := range out {
			s.renewed(leaseKey{out[i].Repo, out[i].Token}, out[i].Refusal)
		}
		s.mu.Unlock()
		for i := range out {
			out[i].Index = places[out[i].Index]
		}
		done(out)
	})
}

// renewed notes the answer to a renewal. The caller holds s.mu.
func (s *session) renewed(k leaseKey, why *actors.Refusal) {
	switch {
	case why == nil:
		s.book.renewed(k)
	case why.Code == actors.CodeStaleLease:
		s.book.end(k)
	}
}
