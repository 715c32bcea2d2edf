package repository

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// maxRetryAfterMs bounds the delay that a worker may ask for: a day, as a group's
// longest back-off.
const maxRetryAfterMs = 24 * 60 * minute

func appendLease(b []byte, l *lane) []byte {
	b = append(b, version1)
	b = binary.AppendUvarint(b, uint64(l.token))
	b = binary.AppendUvarint(b, uint64(l.leaseMs))
	return appendBytes(b, l.session)
}

// settle ends all or a part of a lease.
func (m *Machine) settle(body []byte) error {
	d := decoder{b: body}
	s := Settle{Group: GroupID(d.uvarint()), Repo: d.bytes(), Token: Token(d.uvarint()), Through: Seq(d.uvarint())}
	if s.Kind = SettleKind(d.byte()); s.Kind == settleRetryAfter {
		s.Kind, s.RetryAfterMs = SettleRetry, d.uvarint()
	}
	s.Failed, s.Error = Seq(d.uvarint()), d.bytes()
	n := d.uvarint()
	for range n {
		if d.err != nil {
			break
		}
		s.Results = append(s.Results, SettleResult{Seq: Seq(d.uvarint()), Result: d.bytes()})
	}
	if s.Kind > SettleExpire {
		d.fail()
	}
	if d.err != nil {
		return fmt.Errorf("decode settlement: %w", d.err)
	}
	out, err := m.settleLane(&s)
	if err != nil {
		return err
	}
	m.eff.Results.Settles = append(m.eff.Results.Settles, out)
	return nil
}

func (m *Machine) settleLane(s *Settle) (SettleOutcome, error) {
	g := m.group(s.Group)
	if g == nil {
		return SettleOutcome{Code: UnknownGroup}, nil
	}
	r, err := m.loadRepo(s.Repo)
	if err != nil {
		return SettleOutcome{}, err
	}
	l, err := m.loadLane(g, r)
	if err != nil {
		return SettleOutcome{}, err
	}
	if s.Token == 0 || l.token != s.Token {
		return SettleOutcome{Code: l.ended.again(s), Ended: true}, nil
	}
	rank, cursor := l.rank, l.cursors[l.rank]
	through := max(cursor, s.Through)
	if bad, err := m.badSettlement(g, r, l, s, through); bad || err != nil {
		return SettleOutcome{Code: BadSettlement}, err
	}
	for i := range s.Results {
		if q := s.Results[i].Seq; q > cursor && q <= through && len(s.Results[i].Result) > 0 {
			if err := m.keepResult(g, r, rank, l, &s.Results[i]); err != nil {
				return SettleOutcome{}, err
			}
		}
	}
	if err := m.pass(g, r, l, rank, through); err != nil {
		return SettleOutcome{}, err
	}
	out := SettleOutcome{Code: OK}
	if s.Kind != SettleDone || l.cursors[rank] >= l.last {
		out.Ended = true
		out.Dead, err = m.endLease(g, r, l, s)
	}
	return out, err
}

// badSettlement says whether a settlement is not of a prefix of the lease's packets,
// up to through, and the one after it.
func (m *Machine) badSettlement(g *group, r *repo, l *lane, s *Settle, through Seq) (bool, error) {
	if through > l.last || s.Failed > l.last {
		return true, nil
	}
	if !s.Kind.fails() {
		return false, nil
	}
	next, err := m.nextOf(g, r, l, l.rank, through)
	return s.Failed == 0 || next.item.seq != s.Failed, err // else what lies before it is not settled
}

// fails says whether the settlement names a packet that failed.
func (k SettleKind) fails() bool { return k == SettleRetry || k == SettleDead }

// endLease ends the lane's lease as the settlement says.
func (m *Machine) endLease(g *group, r *repo, l *lane, s *Settle) (dead bool, err error) {
	rank, token := l.rank, l.token
	l.ended.add(ended{token: token, kind: s.Kind, through: min(l.cursors[rank], l.last)})
	complete := l.cursors[rank] >= l.last
	l.token, l.leaseMs, l.dirty = 0, 0, true
	m.touch(g, r, l)
	if complete {
		return false, nil
	}
	if s.Kind == SettleRelease {
		l.heads[rank].release(l.cursors[rank])
		return false, nil
	}
	x, err := m.nextOf(g, r, l, rank, l.cursors[rank])
	if err != nil || x.item.seq == 0 {
		return false, err
	}
	why := Failure{AtMs: m.logTimeMs, Silent: true, Error: "lease expired"}
	if s.Kind.fails() {
		l.ended[0].failed = s.Failed
		why.Silent, why.Error = false, errorText(s.Error)
	}
	dead, err = m.fail(g, r, l, &x, why, uint64(token), s.Kind == SettleDead)
	if after := m.logTimeMs + int64(min(s.RetryAfterMs, maxRetryAfterMs)); !dead && s.RetryAfterMs > 0 {
		h := &l.heads[rank]
		h.notBeforeMs = max(h.notBeforeMs, after) // never sooner than the back-off
	}
	return dead, err
}

// errorText cuts a worker's error text to what is kept, between two characters:
// what is not UTF-8 could not be sent to anybody again.
func errorText(b []byte) string {
	n := min(len(b), maxErrorKept)
	for n > 0 && n < len(b) && !utf8.RuneStart(b[n]) {
		n--
	}
	return string(b[:n])
}

// fail charges the head of a lane, and either backs the lane off or gives the
// packet up, whereupon the group's policy says what becomes of the lane.
func (m *Machine) fail(g *group, r *repo, l *lane, x *headOf, why Failure, seed uint64, rejected bool) (dead bool, err error) {
	h := &l.heads[l.rank]
	if h.seq != x.item.seq { // it failed in mid-batch: this was its first attempt
		*h = head{seq: x.item.seq, attempts: 1}
	}
	h.failures = h.failures.add(why)
	reason := h.verdict(g.cfg.MaxAttempts, rejected)
	if reason == 0 {
		h.notBeforeMs = max(m.logTimeMs+g.cfg.backoff(h.attempts, seed), 1)
		return false, nil
	}
	m.bury(g, r, l.rank, x, reason, h)
	return true, m.afterDeath(g, r, l, x.item.seq)
}
