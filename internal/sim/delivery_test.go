package sim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/storage"
)

// laneTruth is what was committed of a consumer group's lane.
type laneTruth struct {
	ended  map[repository.Seq]bool
	token  repository.Token // of the live lease, or 0
	newest repository.Token
	items  []repository.Seq
	former map[repository.Token]formerLease
	dead   map[repository.Seq]bool
	// blocked is the dead packet that holds the lane, or 0; what waits up to parkTo
	// is parked.
	blocked, parkTo repository.Seq
}

// formerLease is how a lease ended.
type formerLease struct {
	through, failed repository.Seq
	kind            repository.SettleKind
}

func (t *truth) lane(g repository.GroupID, repo string) *laneTruth {
	k := laneKey{g, repo}
	l := t.lanes[k]
	if l == nil {
		l = &laneTruth{ended: map[repository.Seq]bool{}, former: map[repository.Token]formerLease{}, dead: map[repository.Seq]bool{}}
		t.lanes[k] = l
	}
	return l
}

func (t *truth) makeGroups(w *world, m *repository.Machine, all []repository.GroupConfig, start repository.Start, g int) {
	for i := range all {
		if all[i].Start == start {
			t.grouped(w, m, &all[i], g)
		}
	}
}

// grouped notes that a consumer group was made. It gets what is retained, and that
// is all that another one has still to settle; of what none ever asked for, the
// machine says whether it is still there.
func (t *truth) grouped(w *world, m *repository.Machine, c *repository.GroupConfig, g int) {
	if _, ok := t.consumers[c.ID]; ok {
		return
	}
	for _, repo := range w.repos(g) {
		l, r := t.lane(c.ID, repo), t.repos[repo]
		items, err := m.Packets([]byte(repo), 0, int(r.head), nil)
		w.must(err)
		kept := map[repository.Seq]bool{}
		for _, it := range items {
			kept[it.Seq] = true
		}
		for seq := repository.Seq(1); seq <= r.head; seq++ {
			if t.wanted(repo, seq) && !kept[seq] && !r.redriven[seq] {
				w.violate("packet %d of %s is gone, and not settled", seq, repo)
			}
			l.ended[seq] = c.Start == repository.StartLatest || !kept[seq]
			if t.dead(partitionOf(storage.GroupID(g)), c.ID, repo, seq) { // it expired in the same entry
				l.dead[seq] = true
			}
		}
	}
	t.consumers[c.ID] = *c
	w.note("group %d made", c.ID)
}

// wanted says whether some group has still to settle the packet.
func (t *truth) wanted(repo string, seq repository.Seq) bool {
	for id := range t.consumers {
		if !t.lane(id, repo).ended[seq] {
			return true
		}
	}
	return false
}

// next lists the packets of a priority that the lane has still to deliver, in order.
func (t *truth) next(repo string, l *laneTruth, rank repository.Rank) (list []repository.Seq) {
	r := t.repos[repo]
	for seq := repository.Seq(1); seq <= r.head; seq++ {
		if r.bySeq[seq].rank == rank && !l.ended[seq] {
			list = append(list, seq)
		}
	}
	return list
}

// dead looks whether a packet is a dead letter of the group.
func (t *truth) dead(part repository.PartitionID, g repository.GroupID, repo string, seq repository.Seq) bool {
	k := []byte{byte(part >> 8), byte(part), 0x0a}
	k = binary.BigEndian.AppendUint32(k, uint32(g))
	k = append(append(k, repo...), 0, 1)
	_, ok := t.kv[string(binary.BigEndian.AppendUint64(k, uint64(seq)))]
	return ok
}

// expired finds the packets that became dead letters because their time had passed,
// and checks that it had.
func (t *truth) expired(w *world, part repository.PartitionID) {
	retention := int64(w.set.RetentionMs)
	if retention == 0 {
		retention = int64(repository.DefaultConfig().RetentionMs)
	}
	for _, repo := range w.repos(int(part) + 1) {
		r := t.repos[repo]
		for id := repository.GroupID(1); int(id) <= w.set.Consumers; id++ {
			if _, made := t.consumers[id]; !made {
				continue
			}
			l := t.lane(id, repo)
			for seq := repository.Seq(1); seq <= r.head; seq++ {
				if l.ended[seq] || seq == l.blocked || !t.dead(part, id, repo, seq) {
					continue
				}
				l.dead[seq] = true
				if seq <= l.parkTo {
					l.ended[seq] = true
					continue
				}
				ttl, age := int64(r.bySeq[seq].ttl), t.timeMs-r.atMs[seq]
				switch {
				case age < retention && (ttl == 0 || age < ttl):
					w.violate("packet %d of %s ended after %d ms, its time to live is %d ms", seq, repo, age, ttl)
				case l.token != 0 && slices.Contains(l.items, seq):
					w.violate("packet %d of %s ended under the live token %d", seq, repo, l.token)
				}
				l.ended[seq] = true
				w.note("packet %d of %s expired for %d", seq, repo, id)
			}
		}
	}
}

// granted checks a grant: P2 and P4.
func (t *truth) granted(w *world, index uint64, c *repository.Grant, r *repository.GrantResult) {
	if r.Code != repository.OK {
		return
	}
	repo := string(c.Repo)
	l := t.lane(c.Group, repo)
	seqs := make([]repository.Seq, len(r.Items))
	for i := range r.Items {
		seqs[i] = r.Items[i].Seq
	}
	want := t.next(repo, l, r.Rank)
	t.mayGrant(w, c.Group, repo, l)
	t.ready(w, repo, seqs)
	switch {
	case uint64(r.Token) != index || r.Token <= l.newest:
		w.violate("lane %s of group %d: token %d at entry %d, after token %d", repo, c.Group, r.Token, index, l.newest)
	case l.token != 0:
		w.violate("lane %s of group %d: granted as %d, while lease %d is live", repo, c.Group, r.Token, l.token)
	case len(seqs) == 0 || len(seqs) > len(want) || !slices.Equal(seqs, want[:len(seqs)]):
		w.violate("lane %s of group %d: granted %v, %v is next", repo, c.Group, seqs, want)
	case r.Attempt == 0 || uint64(r.Attempt) > t.consumers[c.Group].MaxAttempts:
		w.violate("lane %s of group %d: attempt %d of %d", repo, c.Group, r.Attempt, t.consumers[c.Group].MaxAttempts)
	}
	w.note("%s of %d granted %v as %d", repo, c.Group, seqs, r.Token)
	w.exclusive(c.Group, repo, r.Token)
	l.token, l.newest, l.items = r.Token, r.Token, seqs
}

// exclusive checks that no worker counts on another lease of the lane.
func (w *world) exclusive(g repository.GroupID, repo string, token repository.Token) {
	for _, x := range w.workers {
		for _, h := range x.held {
			if x.consumers == g && h.repo == repo && h.token != token && h.until > w.now && !h.over {
				w.violate("lane %s of group %d: lease %d is taken from %s, which counts on it for %v more", repo, g, h.token, x.name, h.until-w.now)
			}
		}
	}
}

// settled checks a settlement: P4.
func (t *truth) settled(w *world, part repository.PartitionID, s *repository.Settle, out *repository.SettleOutcome) {
	repo := string(s.Repo)
	l := t.lane(s.Group, repo)
	if l.token == 0 || s.Token != l.token {
		f, known := l.former[s.Token]
		switch {
		case out.Code == repository.Stale || out.Code == repository.UnknownGroup:
		case out.Code != repository.OK || !known:
			w.violate("lane %s of group %d: settlement under token %d got code %d, the lease is %d", repo, s.Group, s.Token, out.Code, l.token)
		case s.Through > f.through || s.Kind == repository.SettleDead && (f.kind != s.Kind || f.failed != s.Failed):
			w.violate("lane %s of group %d: settlement %+v under token %d was taken, it ended with %+v", repo, s.Group, *s, s.Token, f)
		}
		return
	}
	if out.Code != repository.OK {
		if out.Code != repository.BadSettlement {
			w.violate("lane %s of group %d: settlement under the live token %d got code %d", repo, s.Group, s.Token, out.Code)
		}
		return
	}
	w.note("%s of %d settled %+v: %+v", repo, s.Group, *s, *out)
	f := formerLease{kind: s.Kind, failed: s.Failed}
	left := l.items[:0:0]
	for _, seq := range l.items {
		if seq <= s.Through {
			l.ended[seq] = true
		}
		if l.ended[seq] {
			f.through = seq
			continue
		}
		left = append(left, seq)
	}
	if out.Dead {
		if len(left) == 0 || !t.dead(part, s.Group, repo, left[0]) {
			w.violate("lane %s of group %d: settlement %+v made a dead letter, and there is none", repo, s.Group, *s)
		}
		t.died(s.Group, repo, l, left[0])
	}
	if ends := len(left) == 0 || s.Kind != repository.SettleDone; ends != out.Ended {
		w.violate("lane %s of group %d: settlement %+v left %v, ended is %v", repo, s.Group, *s, left, out.Ended)
	}
	if !out.Ended {
		return
	}
	w.progress++
	if s.Kind == repository.SettleExpire {
		w.exclusive(s.Group, repo, 0)
	}
	for _, x := range w.workers {
		for _, h := range x.held { // one that was delivered again, perhaps, behind the settlement
			h.over = h.over || x.consumers == s.Group && h.repo == repo && h.token == l.token
		}
	}
	l.former[l.token] = f
	l.token, l.items = 0, nil
}

// unsettled names a packet that some group has still to settle, or returns "".
func (t *truth) unsettled(w *world, g int) (repo string, seq repository.Seq) {
	for _, repo := range w.repos(g) {
		for seq := repository.Seq(1); seq <= t.repos[repo].head; seq++ {
			if t.wanted(repo, seq) {
				return repo, seq
			}
		}
	}
	return "", 0
}

// payload checks the bytes of a packet that is delivered.
func (o *oracle) payload(g *group, repo string, seq repository.Seq, ref repository.Ref) {
	data, err := g.part.payload(g, ref)
	if err != nil && (o.w.flip == nil || !errors.Is(err, storage.ErrCorrupt)) {
		o.w.violate("node %d: read %s %d: %v", g.life.id, repo, seq, err)
	}
	o.w.must(err)
	if p := o.groups[g.id].repos[repo].bySeq[seq]; p == nil || !bytes.Equal(p.content, data) {
		o.w.violate("node %d: %s %d is %q, not %s", g.life.id, repo, seq, data, p)
	}
}
