package repository

import (
	"cmp"
	"fmt"
	"slices"
)

// What the promises say of each command.

func newModelLane() *modelLane {
	return &modelLane{settled: map[Seq]string{}, dead: map[Seq]modelDead{}, results: map[Seq]modelResult{}}
}

func (m *model) setGroup(cfg GroupConfig) {
	if g := m.groups[cfg.ID]; g != nil {
		if cfg.Version > g.cfg.Version {
			g.cfg = cfg
		}
		return
	}
	g := &modelGroup{cfg: cfg}
	if cfg.Start == StartLatest {
		g.startIndex = m.index()
	}
	m.groups[cfg.ID] = g
	for _, r := range m.repos {
		l := newModelLane()
		r.lanes[cfg.ID] = l
		for _, p := range r.packets {
			if p.gone || p.only != 0 || p.index <= g.startIndex {
				l.settled[p.seq] = before
			}
		}
	}
}

func (m *model) expectPublish(r *modelRepo, it *PublishItem) PublishResult {
	var p *modelProducer
	if len(it.Producer) > 0 {
		p = r.producers[string(it.Producer)]
		switch {
		case it.Epoch < m.fences[string(it.Producer)].epoch:
			return PublishResult{Code: Fenced}
		case p == nil && it.Sequence != 1:
			return PublishResult{Code: UnknownProducer}
		case p == nil:
			p = &modelProducer{epoch: it.Epoch, fresh: true}
		case it.Epoch < p.epoch:
			return PublishResult{Code: Fenced}
		case it.Epoch > p.epoch && it.Sequence != 1:
			return PublishResult{Code: Gap, Expected: 1}
		case it.Epoch > p.epoch:
			p = &modelProducer{epoch: it.Epoch}
		case it.Sequence <= uint64(len(p.accepted)):
			return PublishResult{Code: Duplicate, Seq: p.accepted[it.Sequence-1]}
		case it.Sequence > uint64(len(p.accepted)+1):
			return PublishResult{Code: Gap, Expected: uint64(len(p.accepted) + 1)}
		}
	}
	accept := func(seq Seq) {
		if p != nil {
			p.accepted, p.seen = append(p.accepted, seq), m.now
			if p.fresh {
				m.idle = append(m.idle, modelIdleProducer{m.now, r, string(it.Producer)})
				p.fresh = false
			}
			r.producers[string(it.Producer)] = p
		}
	}
	if x, ok := r.ids[string(it.ID)]; ok && x.until > m.now {
		accept(x.seq)
		return PublishResult{Code: Duplicate, Seq: x.seq, ContentDiffers: r.packets[x.seq-1].content != string(it.Raw)}
	}
	if r.retained() >= modelBacklog {
		return PublishResult{Code: BacklogFull}
	}
	x := m.newPacket(r, it)
	if len(it.ID) > 0 {
		r.ids[string(it.ID)] = modelID{x.seq, m.now + int64(DefaultConfig().DedupWindowMs)}
	}
	accept(x.seq)
	return PublishResult{Code: OK, Seq: x.seq}
}

func (m *model) newPacket(r *modelRepo, it *PublishItem) *modelPacket {
	x := &modelPacket{
		repo: r.name, seq: Seq(len(r.packets) + 1), rank: it.Rank, content: string(it.Raw), index: m.index(),
		acceptAt: m.now, readyAt: m.now + int64(it.DeliverAfterMs), id: string(it.ID), crc: it.ContentCRC,
	}
	if it.TTLMs > 0 {
		x.expireAt = m.now + int64(it.TTLMs)
		m.due = append(m.due, modelDue{x.expireAt, x})
	}
	r.packets = append(r.packets, x)
	for g, l := range r.lanes {
		if x.index <= m.groups[g].startIndex {
			l.settled[x.seq] = before
		}
	}
	return x
}

func (r *modelRepo) retained() (n uint64) {
	for _, p := range r.packets {
		if !p.gone && p.only == 0 {
			n++
		}
	}
	return n
}

// next lists the unsettled packets of a rank in order.
func (r *modelRepo) next(l *modelLane, rank Rank) (out []*modelPacket) {
	for _, p := range r.packets {
		if p.rank == rank && !p.gone && l.settled[p.seq] == "" {
			out = append(out, p)
		}
	}
	return out
}

// end settles a packet in a lane, and drops it if no group waits for it.
func (r *modelRepo) end(l *modelLane, p *modelPacket, how string) {
	l.settled[p.seq] = how
	if l.heads[p.rank].seq == p.seq {
		l.heads[p.rank] = modelHead{}
	}
	asked, waits := false, false
	for _, other := range r.lanes {
		asked = asked || other.settled[p.seq] != before
		waits = waits || other.settled[p.seq] == ""
	}
	p.gone = p.gone || asked && !waits
}

func (l *modelLane) hold() (at int64) {
	for _, h := range l.heads {
		at = max(at, h.notBefore)
	}
	return at
}

func (l *modelLane) holds(p *modelPacket) bool {
	for _, h := range l.held {
		if h == p {
			return true
		}
	}
	return false
}

// exempts says for how long a packet must not end by itself because of a lane.
func (l *modelLane) exempts(p *modelPacket) int64 {
	switch {
	case l.lease != 0 && l.holds(p):
		return second
	case l.blocked == p.seq:
		return minute
	}
	return 0
}

func (r *modelRepo) exempt(p *modelPacket) (forMs int64) {
	for _, l := range r.lanes {
		forMs = max(forMs, l.exempts(p))
	}
	return forMs
}

// bury makes a dead letter of a packet, which ends in the lane.
func (m *model) bury(r *modelRepo, l *modelLane, p *modelPacket, reason Reason) {
	m.mourn(l, p, reason)
	r.end(l, p, "dead")
}

func (m *model) mourn(l *modelLane, p *modelPacket, reason Reason) {
	x := modelDead{reason: reason, at: m.now}
	if h := l.heads[p.rank]; h.seq == p.seq {
		x.attempts = h.attempts
	}
	l.dead[p.seq] = x
}

// expire ends a packet past its time to live in every lane; while a grant holds it
// only in those whose head it is.
func (m *model) expirePacket(r *modelRepo, p *modelPacket) {
	exempt := r.exempt(p)
	var ends []*modelLane
	for _, l := range r.lanes {
		if l.settled[p.seq] == "" && l.exempts(p) == 0 && (exempt == 0 || r.next(l, p.rank)[0] == p) {
			ends = append(ends, l)
		}
	}
	reason := ReasonExpired
	if p.only != 0 {
		reason = ReasonRetention
	}
	for _, l := range ends {
		m.bury(r, l, p, reason)
	}
	p.gone = p.gone || exempt == 0
}

// expire looks at the packets whose time to live has passed, those of the oldest
// deadlines first; what a grant holds is looked at again in a second.
func (m *model) expire(limit int) {
	m.due = slices.DeleteFunc(m.due, func(d modelDue) bool { return d.p.gone && d.at == d.p.deadline() })
	slices.SortFunc(m.due, func(a, b modelDue) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.p.repo, b.p.repo), cmp.Compare(a.p.rank, b.p.rank), cmp.Compare(a.p.seq, b.p.seq))
	})
	n := 0
	for n < min(limit, len(m.due)) && m.due[n].at <= m.now {
		n++
	}
	for _, d := range m.due[:n:n] {
		if d.p.gone {
			continue
		}
		r := m.repo(d.p.repo)
		keep := r.exempt(d.p)
		if m.expirePacket(r, d.p); !d.p.gone {
			m.due = append(m.due, modelDue{m.now + keep, d.p})
		}
	}
	m.due = m.due[n:]
}

// housekeep forgets who was idle for long, those first who came first.
func (m *model) housekeep(limit int) {
	slices.SortFunc(m.idle, func(a, b modelIdleProducer) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.r.name, b.r.name), cmp.Compare(a.producer, b.producer))
	})
	n := 0
	for n < min(limit, len(m.idle)) && m.idle[n].at+modelIdle <= m.now {
		n++
	}
	for _, x := range m.idle[:n:n] {
		if p := x.r.producers[x.producer]; p.seen+modelIdle <= m.now {
			delete(x.r.producers, x.producer)
		} else {
			m.idle = append(m.idle, modelIdleProducer{p.seen, x.r, x.producer})
		}
	}
	m.idle = m.idle[n:]
	for range limit {
		oldest := ""
		for name, f := range m.fences {
			if o := m.fences[oldest]; f.atMs+modelIdle <= m.now && (oldest == "" || f.atMs < o.atMs || f.atMs == o.atMs && name < oldest) {
				oldest = name
			}
		}
		delete(m.fences, oldest)
	}
}

// expectGrant is what a grant must come to.
func (m *model) expectGrant(r *modelRepo, g GroupID, n int) (want GrantResult, items []*modelPacket) {
	l := r.lanes[g]
	switch {
	case l == nil:
		return GrantResult{Code: UnknownGroup}, nil
	case l.lease != 0:
		return GrantResult{Code: Leased}, nil
	case l.blocked != 0 || l.parkTo != 0:
		return GrantResult{Code: Held}, nil
	case len(l.over) > 0 && l.over[0].token == Token(m.index()):
		return GrantResult{Code: NotReady, ReadyMs: m.now}, nil
	case l.hold() > m.now:
		return GrantResult{Code: NotReady, ReadyMs: l.hold()}, nil
	}
	want = GrantResult{Code: Empty}
	for rank := range Rank(Ranks) {
		next := r.next(l, rank)
		for len(next) > 0 && next[0].expireAt != 0 && next[0].expireAt <= m.now {
			m.expirePacket(r, next[0])
			next = r.next(l, rank)
		}
		if len(next) == 0 {
			continue
		}
		if at := next[0].readyAt; at > m.now {
			if want.Code == Empty || at < want.ReadyMs {
				want = GrantResult{Code: NotReady, ReadyMs: at}
			}
			continue
		}
		most := min(n, int(m.groups[g].cfg.MaxBatch))
		if l.heads[rank].notBefore != 0 {
			most = 1
		}
		for _, p := range next {
			if len(items) == most || p.readyAt > m.now || p.expireAt != 0 && p.expireAt <= m.now {
				break
			}
			items = append(items, p)
		}
		if h := &l.heads[rank]; h.seq != next[0].seq {
			*h = modelHead{seq: next[0].seq}
		}
		l.heads[rank].attempts++
		l.lease, l.rank, l.held, l.last, l.done = Token(m.index()), rank, items, items[len(items)-1].seq, 0
		return GrantResult{Code: OK, Token: l.lease, Rank: rank, Attempt: l.heads[rank].attempts}, items
	}
	return want, nil
}

// again answers a settlement of a lease that is over: fine if it says what one of
// the last leases ended with.
func (l *modelLane) again(s *Settle) Code {
	for _, x := range l.over[:min(len(l.over), endedKept)] {
		same := !s.Kind.fails() || s.Kind == x.kind && s.Failed == x.failed
		if s.Token == x.token && s.Through <= x.through && same {
			return OK
		}
	}
	return Stale
}

// keepResult is what becomes of a result: it is kept for its time, and the id of its
// packet is known for as long at least.
func (m *model) keepResult(r *modelRepo, l *modelLane, g GroupID, x *SettleResult) {
	p, cfg := r.packets[x.Seq-1], &m.groups[g].cfg
	ttl := cfg.ResultTTLMs
	for _, k := range cfg.KindTTLs {
		if k.Kind == m.kindOf(x.Seq) {
			ttl = k.TTLMs
		}
	}
	if ttl == 0 {
		ttl = DefaultConfig().ResultTTLMs
	}
	kept := modelResult{fmt.Sprintf("result of %d", x.Seq), m.now + int64(ttl)}
	l.results[x.Seq] = kept
	if p.of != 0 {
		l.results[p.of] = kept
	}
	if p.id == "" {
		return
	}
	known := r.ids[p.id]
	if short := ttl < DefaultConfig().DedupWindowMs && known.until > m.now; short && known.seq > x.Seq {
		return
	} else if short {
		kept.until = max(kept.until, known.until)
	}
	r.ids[p.id] = modelID{x.Seq, kept.until}
}

// expectSettle is what a settlement must come to.
func (m *model) expectSettle(r *modelRepo, s *Settle) SettleOutcome {
	l := r.lanes[s.Group]
	if l == nil {
		return SettleOutcome{Code: UnknownGroup}
	}
	if s.Token == 0 || s.Token != l.lease {
		return SettleOutcome{Code: l.again(s), Ended: true}
	}
	done, rest := 0, l.held
	for len(rest) > 0 && rest[0].seq <= s.Through {
		done, rest = done+1, rest[1:]
	}
	if s.Through > l.last || s.Kind.fails() && (len(rest) == 0 || rest[0].seq != s.Failed) {
		return SettleOutcome{Code: BadSettlement}
	}
	for _, x := range s.Results {
		// What the settlement before ended is not changed by naming it again.
		if slices.ContainsFunc(l.held[:done], func(p *modelPacket) bool { return p.seq == x.Seq }) {
			m.keepResult(r, l, s.Group, &x)
		}
	}
	for _, p := range l.held[:done] {
		r.end(l, p, "done")
		l.done = p.seq
	}
	if l.held = rest; s.Kind == SettleDone && len(rest) > 0 {
		return SettleOutcome{}
	}
	out := SettleOutcome{Ended: true}
	l.over = slices.Insert(l.over, 0, modelEnded{ended{token: l.lease, kind: s.Kind, through: l.done}, l.last})
	l.lease, l.held = 0, nil
	if len(rest) == 0 {
		return out
	}
	p := rest[0]
	h := &l.heads[p.rank]
	if s.Kind == SettleRelease {
		if h.seq == p.seq && h.attempts > 0 {
			h.attempts--
		}
		return out
	}
	if h.seq != p.seq {
		*h = modelHead{seq: p.seq, attempts: 1}
	}
	h.silent = (h.silent || h.failures == 0) && !s.Kind.fails()
	h.failures++
	if s.Kind.fails() {
		l.over[0].failed = s.Failed
	}
	cfg := &m.groups[s.Group].cfg
	reason := ReasonAttempts
	switch {
	case s.Kind == SettleDead:
		reason = ReasonRejected
	case uint64(h.attempts) < cfg.MaxAttempts:
		delay := cfg.backoff(h.attempts, uint64(l.over[0].token))
		if s.Kind == SettleRetry {
			delay = max(delay, min(int64(s.RetryAfterMs), 24*60*minute))
		}
		h.notBefore = m.now + delay
		return out
	case h.silent:
		reason = ReasonPoison
	}
	m.die(r, l, p, reason, cfg.OrderPolicy)
	out.Dead = true
	return out
}
