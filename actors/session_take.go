package actors

import (
	"errors"
	"time"

	"github.com/waystation/waystation/actors/lease"
)

// handed is a packet that is about to be handed out.
type handed struct {
	l           *openLease
	at          int
	item        lease.Item
	attempt     uint32
	expiresMs   int64
	redelivered bool
}

// Take hands out up to limit packets and appends them to dst. It may read from the
// disk, but does not wait for packets: it appends none when there are none. The
// packets' bytes are the caller's.
func (h *Session) Take(limit int, dst []Delivery) []Delivery {
	return h.take(limit, h.s.g.d.cfg.TakeBytes, dst)
}

// take is Take with a bound of its own: it ends with the packet that reaches most
// bytes.
func (h *Session) take(limit, most int, dst []Delivery) []Delivery {
	var buf [64]handed
	list, size := h.next(limit, most, buf[:0])
	if len(list) == 0 {
		return dst
	}
	slab := make([]byte, 0, size)
	first := len(dst)
	var t tally
	nowMs := time.Now().UnixMilli()
	var ended *openLease // at a packet that could not be read
	for i := range list {
		x := &list[i]
		if x.l == ended {
			continue // it goes back with the others behind that one
		}
		n := len(slab)
		data, err := x.l.k.p.Payload(x.item.Ref, slab)
		if err != nil {
			ended = x.l
			h.s.lost(x, err)
			continue
		}
		slab = data
		dst = append(dst, Delivery{
			Repo: x.l.repo, Seq: x.item.Seq, Token: x.l.token, Attempt: x.attempt, LeaseMs: x.l.leaseMs,
			ExpiresMs: x.expiresMs, AcceptedMs: x.item.AcceptedMs, Redelivered: x.redelivered, RedriveOf: x.item.RedriveOf,
			Packet: data[n:len(data):len(data)],
		})
		t.add(time.Duration(nowMs-x.item.AcceptedMs) * time.Millisecond)
	}
	h.s.g.delivered.add(&t)
	if len(dst)-first < len(list) {
		h.s.missed(h, len(list)-(len(dst)-first))
	}
	return dst
}

// next takes packets off the session's queue, as far as their bytes allow.
func (h *Session) next(limit, most int, list []handed) (_ []handed, size int) {
	s := h.s
	now := s.g.d.mono()
	s.mu.Lock()
	if s.handle != h || s.draining {
		s.mu.Unlock()
		return nil, 0
	}
	for len(list) < limit && len(s.queue) > 0 && (size < most) {
		l := s.queue[0]
		l.mu.Lock()
		for len(list) < limit && size < most {
			it, at, ok := l.batch.Hand(now)
			if !ok {
				break
			}
			attempt := uint32(1)
			if at == 0 {
				attempt = l.attempt
			}
			list = append(list, handed{l, at, *it, attempt, l.promisedMs, l.redelivered})
			size += int(it.Ref.Length)
		}
		empty := l.batch.Pending() == 0
		l.mu.Unlock()
		if !empty {
			break
		}
		s.queue[0] = nil
		s.queue = s.queue[1:]
	}
	more := len(s.queue) > 0
	s.mu.Unlock()
	if more {
		h.signal() // than was asked for
	}
	return list, size
}

// lost settles a packet that cannot be handed out. One whose bytes are damaged or
// gone is dead, and said to be so: it is never served, and never dropped in
// silence. After any other fault it is tried again later.
func (s *session) lost(x *handed, err error) {
	l, d := x.l, s.g.d
	l.mu.Lock()
	over := l.batch.Over()
	l.mu.Unlock()
	if over {
		return // and so may the packet be
	}
	outcome := lease.Retry
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrGone) {
		outcome = lease.Dead
		d.metrics.damaged.Inc()
	}
	d.log.Error("deliver packet", "partition", l.k.p.ID(), "repository", l.repo, "sequence", uint64(x.item.Seq),
		"group", s.g.cfg.Load().Name, "dead", outcome == lease.Dead, "error", err)
	ws := s.g.d.workset()
	l.mu.Lock()
	unseen := l.batch.Pending()
	freed := l.batch.Lose(x.at, outcome, []byte(err.Error()))
	unseen -= l.batch.Pending()
	l.advance(ws)
	l.mu.Unlock()
	s.mu.Lock()
	s.credit.Release(freed)
	s.unspent(l.by, unseen)
	s.mu.Unlock()
	s.fill(ws)
	ws.submit()
}

// Pending says whether more may come at once: grants are not decided yet, lanes are
// just being looked for, or there is credit left and partitions that have not said
// yet which lanes they have. Each partition publishes its lanes, and wakes the
// session, before it counts as warm, so that is asked first.
func (h *Session) Pending() bool {
	s := h.s
	warm := s.g.warm()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handle == h && (s.inflight > 0 || s.running || !warm && s.credit.Free() > 0)
}
