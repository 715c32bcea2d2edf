package repository

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// What the machine shows, against the model.

func (m *model) repo(name string) *modelRepo {
	for _, r := range m.repos {
		if r.name == name {
			return r
		}
	}
	m.t.Fatalf("repository %q is not the model's", name)
	return nil
}

type deadKey struct {
	repo string
	seq  Seq
}

func (m *model) dead() map[GroupID]map[deadKey]DeadLetter {
	out := map[GroupID]map[deadKey]DeadLetter{}
	for g := range m.groups {
		list, next, err := m.first().DeadLetters(g, nil, nil, 1<<20)
		if err != nil || next != nil {
			m.t.Fatalf("dead letters: %v", err)
		}
		out[g] = map[deadKey]DeadLetter{}
		for _, d := range list {
			out[g][deadKey{d.Repo, d.Seq}] = d
		}
	}
	return out
}

// adoptSwept takes over which packets the sweep has ended, if it could.
func (m *model) adoptSwept() {
	for g, list := range m.dead() {
		for _, d := range list {
			r := m.repo(d.Repo)
			l, p := r.lanes[g], r.packets[d.Seq-1]
			if d.Reason != ReasonRetention || l.settled[d.Seq] != "" {
				continue
			}
			if r.exempt(p) != 0 || p.acceptAt+modelRetention > m.now {
				m.t.Fatalf("%q/%d swept at %d, accepted %d, exempt %d", d.Repo, d.Seq, m.now, p.acceptAt, r.exempt(p))
			}
			m.bury(r, l, p, ReasonRetention)
		}
	}
	for _, r := range m.repos { // what no group asked for
		kept := m.retained(r)
		for _, p := range r.packets {
			asked := false
			for _, l := range r.lanes {
				asked = asked || l.settled[p.seq] != before
			}
			p.gone = p.gone || !asked && kept[p.seq] == nil && p.acceptAt+modelRetention <= m.now
		}
	}
}

func (m *model) checkGrant(r *modelRepo, g GroupID, n int, got *GrantResult) {
	want, items := m.expectGrant(r, g, n)
	if got.Code != want.Code || got.Token != want.Token || got.Rank != want.Rank || got.Attempt != want.Attempt ||
		got.ReadyMs != want.ReadyMs || len(got.Items) != len(items) {
		m.t.Fatalf("entry %d grants %q to %d: got %+v, want %+v with %d items", m.index(), r.name, g, got, want, len(items))
	}
	for i, p := range items {
		if got.Items[i].Seq != p.seq || got.Items[i].RedriveOf != p.of || got.Items[i].AcceptedMs != p.acceptAt {
			m.t.Fatalf("entry %d grants %q to %d: item %d is %+v, want %+v", m.index(), r.name, g, i, got.Items[i], p)
		}
		for _, rep := range m.replicas {
			if c := m.payload(rep, got.Items[i].Ref); c != p.content {
				m.t.Fatalf("payload of %d is %q, want %q", p.seq, c, p.content)
			}
		}
	}
}

func (m *model) retained(r *modelRepo) map[Seq]*StoredItem {
	list, err := m.first().Packets([]byte(r.name), 0, 1<<20, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	out := map[Seq]*StoredItem{}
	for i := range list {
		out[list[i].Seq] = &list[i]
	}
	return out
}

// checkAll holds everything that the first replica shows against the model.
func (m *model) checkAll() {
	waiting := map[GroupID][Ranks]uint64{}
	for _, r := range m.repos {
		kept := m.retained(r)
		for _, p := range r.packets {
			if x := kept[p.seq]; p.only != 0 && x != nil || p.only == 0 && ((x == nil) != p.gone || x != nil && (x.Rank != p.rank || x.AcceptedMs != p.acceptAt)) {
				m.t.Fatalf("entry %d: %q/%d is kept as %+v, want %+v", m.index(), r.name, p.seq, x, p)
			}
			for g, l := range r.lanes {
				if l.settled[p.seq] == "" {
					w := waiting[g]
					w[p.rank]++
					waiting[g] = w
				}
			}
		}
		if len(kept) != int(r.retained()) {
			m.t.Fatalf("entry %d: %d packets of %q are kept, want %d", m.index(), len(kept), r.name, r.retained())
		}
	}
	dead := m.dead()
	m.first().Depths(func(g *GroupConfig, w [Ranks]uint64, n uint64) {
		if w != waiting[g.ID] || int(n) != len(dead[g.ID]) {
			m.t.Fatalf("entry %d: group %d counts %v and %d dead letters, has %v and %d", m.index(), g.ID, w, n, waiting[g.ID], len(dead[g.ID]))
		}
	})
	m.checkDead(dead)
	for g := GroupID(1); g <= modelGroups; g++ { // in order: it draws from rng
		if m.groups[g] != nil {
			m.checkRunnable(g)
		}
	}
	if i := m.index(); i%7 == 0 { // in turn: but for the spill they were compared
		checkState(m.t, m.replicas[i/7%2])
	}
}

// checkRunnable: exactly the lanes that can run are listed, once and at the highest
// priority that is ready, and the next one's time is known.
func (m *model) checkRunnable(g GroupID) {
	want, next := map[string]Rank{}, int64(math.MaxInt64)
	for _, r := range m.repos {
		l := r.lanes[g]
		if l.lease != 0 || l.blocked != 0 || l.parkTo != 0 || !m.first().group(g).indexed(r.name) {
			continue
		}
		for rank := range Rank(Ranks) {
			list := r.next(l, rank)
			if len(list) == 0 {
				continue
			}
			if at := max(list[0].readyAt, l.hold()); at > m.now {
				next = min(next, at)
				continue
			}
			want[r.name] = rank
			break
		}
	}
	got := map[string]Rank{}
	var after []byte
	soonest := int64(math.MaxInt64)
	for {
		page, cursor, ready, err := m.first().Runnable(g, after, m.now, 1+m.rng.IntN(4), nil)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, l := range page {
			if _, twice := got[l.Repo]; twice {
				m.t.Fatalf("entry %d: lane %q of group %d is listed twice", m.index(), l.Repo, g)
			}
			if m.first().group(g).indexed(l.Repo) {
				got[l.Repo] = l.Rank
			}
		}
		if ready != 0 {
			soonest = min(soonest, ready)
		}
		if after = cursor; after == nil {
			break
		}
	}
	if !slices.Equal(lanesOf(got), lanesOf(want)) {
		m.t.Fatalf("entry %d: lanes of group %d: %q can run, want %q", m.index(), g, lanesOf(got), lanesOf(want))
	}
	if m.first().Backfilling(g) {
		return
	}
	if soonest != next {
		m.t.Fatalf("entry %d: group %d is next ready at %d, want %d, now %d", m.index(), g, soonest, next, m.now)
	}
}

func lanesOf(m map[string]Rank) (out []string) {
	for name, rank := range m {
		out = append(out, fmt.Sprintf("%s %v", strings.ReplaceAll(name, "\x00", "/"), rank))
	}
	slices.Sort(out)
	return out
}

// checkPayloads: whatever is referred to can be read, from the log or the spill.
func (m *model) checkPayloads(rep *replica) {
	for _, r := range m.repos {
		for seq, x := range m.retained(r) {
			if got, want := m.payload(rep, x.Ref), r.packets[seq-1].content; got != want {
				m.t.Fatalf("payload of %q/%d is %q, want %q", r.name, seq, got, want)
			}
		}
	}
	for _, list := range m.dead() {
		for _, d := range list {
			if got, want := m.payload(rep, d.Ref), m.repo(d.Repo).packets[d.Seq-1].content; got != want {
				m.t.Fatalf("payload of dead letter %q/%d is %q, want %q", d.Repo, d.Seq, got, want)
			}
		}
	}
}

// query looks at something. What a replica was asked must not show in its state.
func (m *model) query(x *Machine) {
	r, g := m.anyRepo(), m.anyGroup()
	name := []byte(r.name)
	var err error
	switch m.rng.IntN(12) {
	case 0:
		_, err = x.Lane(g, name)
	case 1:
		_, _, err = x.Repo(name)
	case 2:
		_, _, _, err = x.Position(name, []byte("p0"))
	case 3:
		_, _, err = x.Receipt(name, []byte("p1"), 1, 2)
	case 4:
		_, _, _, err = x.FindID(name, []byte("id3"))
	case 5:
		_, err = x.Packets(name, Seq(m.rng.IntN(30)), 5, nil)
	case 6:
		m.checkOpenGrant(x, r, g)
	case 7:
		_, err = x.Due(m.now)
	case 8:
		_, err = x.Settled(m.index())
	case 9:
		err = m.checkLeases(x)
	case 10:
		_, _, err = x.Repo([]byte("never seen"))
	case 11:
		err = m.checkResults(x, r, g)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *model) checkOpenGrant(x *Machine, r *modelRepo, g GroupID) {
	var res GrantResult
	session, err := x.OpenGrant(g, []byte(r.name), &res)
	if err != nil {
		m.t.Fatal(err)
	}
	l := r.lanes[g]
	if l == nil || l.lease == 0 {
		if res.Code != Empty {
			m.t.Fatalf("no lease of %q, and yet %+v", r.name, res)
		}
		return
	}
	attempt := uint32(1)
	if h := l.heads[l.rank]; h.seq == l.held[0].seq {
		attempt = h.attempts
	}
	if res.Code != OK || res.Token != l.lease || res.Rank != l.rank || res.Attempt != attempt || len(res.Items) != len(l.held) || session != fmt.Sprintf("w%d", g) {
		m.t.Fatalf("open grant of %q for %q: %+v, want token %d attempt %d of %d packets", r.name, session, res, l.lease, attempt, len(l.held))
	}
	for i, p := range l.held {
		if res.Items[i].Seq != p.seq {
			m.t.Fatalf("open grant of %q: item %d is %d, want %d", r.name, i, res.Items[i].Seq, p.seq)
		}
	}
}

func (m *model) checkLeases(x *Machine) error {
	got := map[string]Token{}
	err := x.Leases(func(l Lease) bool {
		got[fmt.Sprintf("%d %s", l.Group, l.Repo)] = l.Token
		return true
	})
	n := 0
	for _, r := range m.repos {
		for g, l := range r.lanes {
			if l.lease == 0 {
				continue
			}
			n++
			if t := got[fmt.Sprintf("%d %s", g, r.name)]; t != l.lease {
				m.t.Fatalf("lease of %q by group %d: token %d, want %d", r.name, g, t, l.lease)
			}
		}
	}
	if n != len(got) {
		m.t.Fatalf("%d leases, want %d", len(got), n)
	}
	return err
}

func (m *model) checkResults(x *Machine, r *modelRepo, g GroupID) error {
	l := r.lanes[g]
	if l == nil {
		return nil
	}
	for seq, want := range l.results {
		got, ok, err := x.ResultOf(g, []byte(r.name), seq)
		if err != nil || ok != (want.until > x.LogTime()) || ok && (string(got.Data) != want.text || got.UntilMs != want.until) {
			m.t.Fatalf("result of %q/%d at %d: %+v, %v, want %+v", r.name, seq, x.LogTime(), got, err, want)
		}
	}
	for _, p := range r.packets {
		if err := m.checkStanding(x, r, g, p); err != nil {
			return err
		}
	}
	return nil
}

// checkStanding compares what became of a packet in a group. One that was redriven
// stands where its next life does.
func (m *model) checkStanding(x *Machine, r *modelRepo, g GroupID, p *modelPacket) error {
	if p.only != 0 && p.only != g {
		return nil
	}
	l, want := r.lanes[g], Standing{State: StateDone, Seq: p.seq}
	for _, next := range r.packets {
		if next.of == p.seq && next.only == g && !next.gone && l.settled[next.seq] == "" {
			want.Seq, want.State = next.seq, StateWaiting
		}
	}
	switch _, dead := l.dead[p.seq]; {
	case dead:
		want = Standing{State: StateDead, Seq: p.seq}
	case want.State == StateDone && !p.gone && l.settled[p.seq] == "":
		want.State = StateWaiting
	}
	got, err := x.Standing(g, []byte(r.name), p.seq)
	if err == nil && (got.State != want.State || got.Seq != want.Seq) {
		m.t.Fatalf("%q/%d in group %d stands at %+v, want %+v", r.name, p.seq, g, got, want)
	}
	return err
}
