package repository

import (
	"cmp"
	"slices"
)

// What the promises say of packets that failed for good.

// die ends a packet that failed for good as the group's policy says.
func (m *model) die(r *modelRepo, l *modelLane, p *modelPacket, reason Reason, policy OrderPolicy) {
	if policy == OrderBlock {
		m.mourn(l, p, reason)
		l.blocked = p.seq
		return
	}
	m.bury(r, l, p, reason)
	if policy == OrderPark {
		l.parkTo = Seq(len(r.packets))
		m.park(r, l, parkSlice)
	}
}

// park buries what waits in a lane by its priority and number, at most limit of it.
func (m *model) park(r *modelRepo, l *modelLane, limit int) (n int) {
	for rank := range Rank(Ranks) {
		for _, p := range r.next(l, rank) {
			if p.seq > l.parkTo {
				break
			}
			if n == limit {
				return n
			}
			m.bury(r, l, p, ReasonParked)
			n++
		}
	}
	l.parkTo = 0
	return n
}

func (m *model) parkSome(limit uint32) command {
	return command{func(e *EntryBuilder) { e.AddPark(limit) }, func(*Results) {
		left := int(limit)
		for g := GroupID(1); g <= modelGroups; g++ {
			for _, r := range m.repos { // their names are in order
				if l := r.lanes[g]; l != nil && l.parkTo != 0 && left > 0 {
					left -= max(m.park(r, l, left), 1)
				}
			}
		}
	}}
}

// endDead redrives or discards some dead letters.
func (m *model) endDead() command {
	f := DeadFilter{Group: m.anyGroup(), Tag: m.rng.Uint64()}
	action := DeadRedrive
	if m.rng.IntN(3) == 0 {
		action = DeadDiscard
	}
	if m.rng.IntN(3) > 0 {
		r := m.anyRepo()
		f.Repo = []byte(r.name)
		if l := r.lanes[f.Group]; l != nil && m.rng.IntN(2) == 0 {
			if f.Seq = l.blocked; f.Seq == 0 {
				f.Seq = Seq(1 + m.rng.IntN(len(r.packets)+1))
			}
		}
	}
	if m.rng.IntN(3) == 0 {
		f.Reason = Reason(1 + m.rng.IntN(6))
	}
	if m.rng.IntN(4) == 0 {
		f.UntilMs = m.now - int64(m.rng.IntN(20_000))
	}
	if m.rng.IntN(4) == 0 {
		f.SinceMs = m.now - int64(m.rng.IntN(20_000))
	}
	return m.endDeadOf(action, f, 1+m.rng.IntN(4))
}

func (m *model) endDeadOf(action DeadAction, f DeadFilter, limit int) command {
	return command{func(e *EntryBuilder) { e.AddDead(action, &f, uint32(limit)) }, func(res *Results) {
		want, got := m.expectDead(action, &f, limit), res.Dead[0]
		if got.Code != want.Code || got.Count != want.Count || got.Looked != want.Looked || got.Tag != f.Tag || (got.Next == nil) != (want.Next == nil) {
			m.t.Fatalf("entry %d ends dead letters %+v: got %+v, want %+v", m.index(), f, got, want)
		}
		res.Dead = res.Dead[1:]
	}}
}

func (m *model) expectDead(action DeadAction, f *DeadFilter, limit int) (out DeadOutcome) {
	if m.groups[f.Group] == nil {
		return DeadOutcome{Code: UnknownGroup}
	}
	type named struct {
		r   *modelRepo
		seq Seq
	}
	var all []named
	for _, r := range m.repos {
		for seq := range r.lanes[f.Group].dead {
			if (len(f.Repo) == 0 || r.name == string(f.Repo)) && (f.Seq == 0 || f.Seq == seq) {
				all = append(all, named{r, seq})
			}
		}
	}
	slices.SortFunc(all, func(a, b named) int {
		return cmp.Or(cmp.Compare(a.r.name, b.r.name), cmp.Compare(a.seq, b.seq))
	})
	if len(all) >= limit {
		all, out.Next = all[:limit], []byte{}
	}
	out.Looked = len(all)
	for _, x := range all {
		d := x.r.lanes[f.Group].dead[x.seq]
		if f.Reason != 0 && d.reason != f.Reason || f.UntilMs != 0 && d.at > f.UntilMs || d.at < f.SinceMs {
			continue
		}
		out.Count++
		m.endOne(action, f.Group, x.r, x.seq)
	}
	return out
}

func (m *model) endOne(action DeadAction, g GroupID, r *modelRepo, seq Seq) {
	l, p := r.lanes[g], r.packets[seq-1]
	delete(l.dead, seq)
	held := l.blocked == seq
	if held {
		l.blocked = 0
	}
	switch {
	case action == DeadDiscard && held:
		r.end(l, p, "dead")
	case action == DeadDiscard:
	case held:
		l.heads[p.rank] = modelHead{}
	default:
		m.redrive(g, r, p)
	}
}

func (m *model) redrive(g GroupID, r *modelRepo, p *modelPacket) {
	x := &modelPacket{
		repo: r.name, seq: Seq(len(r.packets) + 1), rank: p.rank, content: p.content, index: m.index(),
		acceptAt: m.now, readyAt: m.now, only: g, of: p.seq, retireAt: m.now + modelRetention, id: p.id, crc: p.crc,
	}
	r.packets = append(r.packets, x)
	m.due = append(m.due, modelDue{x.retireAt, x})
	for other, l := range r.lanes {
		if other != g {
			l.settled[x.seq] = before
		}
	}
}

// checkDead: the dead letters are the model's, each with what is known of it.
func (m *model) checkDead(dead map[GroupID]map[deadKey]DeadLetter) {
	n := 0
	for _, r := range m.repos {
		for g, l := range r.lanes {
			for seq, want := range l.dead {
				n++
				got, ok := dead[g][deadKey{r.name, seq}]
				if !ok || got.Reason != want.reason || got.AtMs != want.at || got.Attempts != want.attempts || got.RedriveOf != r.packets[seq-1].of {
					m.t.Fatalf("entry %d: dead letter %q/%d of group %d is %+v, want %+v", m.index(), r.name, seq, g, got, want)
				}
			}
			m.checkHolds(g, r, l)
		}
	}
	for _, list := range dead {
		n -= len(list)
	}
	if n != 0 {
		m.t.Fatalf("entry %d: %d dead letters are missing, or too many", m.index(), n)
	}
}

func (m *model) checkHolds(g GroupID, r *modelRepo, l *modelLane) {
	info, err := m.first().Lane(g, []byte(r.name))
	if err != nil || info.Blocked != l.blocked || info.Parking != (l.parkTo != 0) {
		m.t.Fatalf("entry %d: lane %q of group %d: %+v, %v; want it held by %d, parking up to %d", m.index(), r.name, g, info, err, l.blocked, l.parkTo)
	}
}
