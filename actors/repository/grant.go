package repository

import (
	"fmt"
	"math"
)

// grant leases the repository's next packets to a session.
func (m *Machine) grant(body []byte) error {
	d := decoder{b: body}
	gid, name, session := GroupID(d.uvarint()), d.bytes(), d.bytes()
	maxItems, maxBytes, leaseMs := d.limit(), d.uvarint(), d.uvarint()
	if d.err != nil {
		return fmt.Errorf("decode grant: %w", d.err)
	}
	at := len(m.eff.Results.Grants)
	m.eff.Results.Grants = append(m.eff.Results.Grants, GrantResult{})
	g := m.group(gid)
	if g == nil {
		m.eff.Results.Grants[at].Code = UnknownGroup
		return nil
	}
	if leaseMs == 0 {
		leaseMs = g.cfg.LeaseMs
	}
	maxItems = max(int(min(uint64(maxItems), g.cfg.MaxBatch)), 1)
	res, err := m.grantLane(g, name, session, uint32(leaseMs), maxItems, maxBytes)
	if err != nil {
		return err
	}
	m.eff.Results.Grants[at] = res
	return nil
}

func (m *Machine) grantLane(g *group, name, session []byte, leaseMs uint32, maxItems int, maxBytes uint64) (GrantResult, error) {
	r, err := m.loadRepo(name)
	if err != nil {
		return GrantResult{}, err
	}
	if r.head == 0 {
		return GrantResult{Code: Empty}, nil
	}
	l, err := m.loadLane(g, r)
	if err != nil {
		return GrantResult{}, err
	}
	switch hold := l.hold(); {
	case l.token != 0:
		return GrantResult{Code: Leased}, nil
	case l.held():
		return GrantResult{Code: Held}, nil
	case l.ended[0].token == Token(m.index): // one grant per lane and entry, or two leases would share a token
		return GrantResult{Code: NotReady, ReadyMs: m.logTimeMs}, nil
	case hold > m.logTimeMs:
		return GrantResult{Code: NotReady, ReadyMs: hold}, nil
	}
	l.served = true
	res := GrantResult{Code: Empty}
	for rank := range Rank(Ranks) {
		if !waits(r, l, rank) {
			continue
		}
		readyMs, err := m.collect(g, r, l, rank, maxItems, maxBytes)
		if err != nil {
			return GrantResult{}, err
		}
		if len(m.picked) > 0 {
			m.lease(g, r, l, rank, session, leaseMs, &res)
			break
		}
		if readyMs > 0 && (res.Code != NotReady || readyMs < res.ReadyMs) {
			res.Code, res.ReadyMs = NotReady, readyMs
		}
	}
	return res, nil
}

// collect gathers the packets of a priority that may be delivered now into
// m.picked. It answers when the head may be, if that is later.
func (m *Machine) collect(g *group, r *repo, l *lane, rank Rank, maxItems int, maxBytes uint64) (readyMs int64, err error) {
	for {
		most := maxItems
		if l.heads[rank].notBeforeMs != 0 {
			most = 1 // it failed: until it passes it comes alone
		}
		pick := m.pick
		if l.again[rank] > 0 {
			pick = m.pickMixed
		}
		expired, readyMs, err := pick(g, r, l, rank, most, maxBytes)
		if err != nil || expired == 0 {
			return readyMs, err
		}
		if err := m.expireHead(r, l, rank, expired); err != nil {
			return 0, err
		}
	}
}

// pick fills m.picked. If the head's time to live has passed, it answers its number.
func (m *Machine) pick(_ *group, r *repo, l *lane, rank Rank, maxItems int, maxBytes uint64) (expired Seq, readyMs int64, err error) {
	m.picked = m.picked[:0]
	cursor, size := l.cursors[rank], uint64(0)
	for w := m.walk(r, l, rank, cursor+1); ; {
		x, err := w.next()
		if err != nil || x == nil {
			return 0, 0, err
		}
		for i := x.above(cursor); i < len(x.items); i++ {
			it, head := &x.items[i], len(m.picked) == 0
			switch {
			case it.expireMs != 0 && it.expireMs <= m.logTimeMs:
				if head {
					return it.seq, 0, nil
				}
				return 0, 0, nil
			case it.readyMs > m.logTimeMs:
				if head {
					return 0, it.readyMs, nil
				}
				return 0, 0, nil
			case !head && size+uint64(it.length) > maxBytes:
				return 0, 0, nil
			}
			size += uint64(it.length)
			m.picked = append(m.picked, GrantedItem{Seq: it.seq, Ref: x.ref(i), AcceptedMs: x.acceptedMs})
			if len(m.picked) == maxItems {
				return 0, 0, nil
			}
		}
	}
}

// pickMixed is pick where something redriven waits too.
func (m *Machine) pickMixed(g *group, r *repo, l *lane, rank Rank, maxItems int, maxBytes uint64) (expired Seq, readyMs int64, err error) {
	m.picked = m.picked[:0]
	list, err := m.mixed(g, r, l, rank, l.cursors[rank], math.MaxUint64-1, maxItems)
	if err != nil {
		return 0, 0, err
	}
	size := uint64(0)
	for i := range list {
		x := &list[i]
		expires := x.item.expireMs != 0 && x.item.expireMs <= m.logTimeMs
		switch {
		case i == 0 && expires:
			return x.item.seq, 0, nil
		case i == 0 && x.item.readyMs > m.logTimeMs:
			return 0, x.item.readyMs, nil
		case i > 0 && (expires || x.item.readyMs > m.logTimeMs || size+uint64(x.item.length) > maxBytes):
			return 0, 0, nil
		}
		size += uint64(x.item.length)
		m.picked = append(m.picked, x.granted())
	}
	return 0, 0, nil
}

func (x *headOf) granted() GrantedItem {
	return GrantedItem{Seq: x.item.seq, Ref: x.ref, AcceptedMs: x.acceptedMs, RedriveOf: x.of}
}

// lease writes the grant of m.picked.
func (m *Machine) lease(g *group, r *repo, l *lane, rank Rank, session []byte, leaseMs uint32, res *GrantResult) {
	h := &l.heads[rank]
	if first := m.picked[0].Seq; h.seq != first {
		*h = head{seq: first}
	}
	h.attempts++ // at the grant: a packet that kills its workers still counts
	l.token, l.rank, l.last = Token(m.index), rank, m.picked[len(m.picked)-1].Seq
	l.leaseMs, l.dirty = leaseMs, true
	if l.session != string(session) { // a lane often stays with its worker: no new string
		l.session = string(session)
	}
	items := m.eff.Results.items
	m.eff.Results.items = append(items, m.picked...)
	items = m.eff.Results.items[len(items):]
	*res = GrantResult{
		Code: OK, Token: l.token, Rank: rank, Attempt: h.attempts,
		Items: items[:len(items):len(items)], More: r.ranks[rank].last > l.last || l.again[rank] > 0,
	}
	m.touch(g, r, l)
}
