package sim

import (
	"github.com/waystation/waystation/actors/repository"
)

// deadOrder is an operator's order about one dead letter.
type deadOrder struct {
	action repository.DeadAction
	filter repository.DeadFilter
}

// endDead orders something about a dead letter that n picks; held: about one that
// holds its lane.
func (d *leader) endDead(n uint64, held bool) bool {
	w, r := d.g.w, newRand(n)
	id := repository.GroupID(1 + r.IntN(w.set.Consumers))
	o := &deadOrder{action: repository.DeadRedrive, filter: repository.DeadFilter{Group: id, Tag: n}}
	if r.IntN(3) == 0 {
		o.action = repository.DeadDiscard
	}
	if held {
		if !d.held(&o.filter) {
			return false
		}
	} else {
		list, _, err := d.g.part.machine.DeadLetters(id, nil, nil, 50)
		w.must(err)
		if len(list) == 0 {
			return false
		}
		x := list[r.IntN(len(list))]
		o.filter.Repo, o.filter.Seq = []byte(x.Repo), x.Seq
	}
	w.note("%d: order %d about %s %d of group %d", d.g.life.id, o.action, o.filter.Repo, o.filter.Seq, o.filter.Group)
	d.orders = append(d.orders, order{
		dead: o,
		add:  func(b *repository.EntryBuilder) { b.AddDead(o.action, &o.filter, 1) },
		done: func(res *repository.Results, _ bool) {
			if res == nil {
				return
			}
			for i := range res.Dead {
				if x := &res.Dead[i]; x.Tag == o.filter.Tag {
					w.progress += x.Count
				}
			}
		},
	})
	return true
}

// held finds a lane that a dead letter holds.
func (d *leader) held(f *repository.DeadFilter) bool {
	for id := repository.GroupID(1); int(id) <= d.g.w.set.Consumers; id++ {
		for _, repo := range d.g.w.repos(int(d.g.id)) {
			info, err := d.g.part.machine.Lane(id, []byte(repo))
			if err == nil && info.Blocked != 0 {
				f.Group, f.Repo, f.Seq = id, []byte(repo), info.Blocked
				return true
			}
		}
	}
	return false
}

// died follows what a packet that failed for good does to its lane: P7.
func (t *truth) died(g repository.GroupID, repo string, l *laneTruth, seq repository.Seq) {
	l.dead[seq] = true
	switch t.consumers[g].OrderPolicy {
	case repository.OrderBlock:
		l.blocked = seq
		return
	case repository.OrderPark:
		l.parkTo = t.repos[repo].head
	}
	l.ended[seq] = true
}

// mayGrant checks that the lane's policy lets it be delivered.
func (t *truth) mayGrant(w *world, g repository.GroupID, repo string, l *laneTruth) {
	if l.blocked != 0 {
		w.violate("lane %s of group %d: granted, and held by the dead packet %d", repo, g, l.blocked)
	}
	for seq := repository.Seq(1); seq <= l.parkTo; seq++ {
		if !l.ended[seq] {
			w.violate("lane %s of group %d: granted before packet %d is parked, of those up to %d", repo, g, seq, l.parkTo)
		}
	}
	l.parkTo = 0
}

// ready checks that packets which were to wait have.
func (t *truth) ready(w *world, repo string, seqs []repository.Seq) {
	r := t.repos[repo]
	for _, seq := range seqs {
		if p := r.bySeq[seq]; !r.redriven[seq] && t.timeMs < r.atMs[seq]+int64(p.delay) {
			w.violate("%s: delivered after %d ms", p, t.timeMs-r.atMs[seq])
		}
	}
}

// endedDead checks what became of an order about a dead letter. A redriven packet
// that does not hold its lane gets the next number, for its group alone.
func (t *truth) endedDead(w *world, x *deadOrder, out *repository.DeadOutcome) {
	f, repo := &x.filter, string(x.filter.Repo)
	l, r := t.lane(f.Group, repo), t.repos[repo]
	switch is := l.dead[f.Seq]; {
	case out.Tag != f.Tag || out.Code != repository.OK:
		w.violate("order %+v: %+v", *x, *out)
	case is != (out.Count == 1):
		w.violate("order %d about packet %d of %s for group %d: done to %d, it is a dead letter: %v", x.action, f.Seq, repo, f.Group, out.Count, is)
	case !is:
		return
	}
	w.note("dead %s %d of %d: %d", repo, f.Seq, f.Group, x.action)
	delete(l.dead, f.Seq)
	held := l.blocked == f.Seq
	if held {
		l.blocked = 0
	}
	switch {
	case x.action == repository.DeadDiscard:
		l.ended[f.Seq] = true
	case !held:
		r.head++
		p := *r.bySeq[f.Seq]
		p.ttl = 0
		r.bySeq[r.head], r.atMs[r.head], r.redriven[r.head] = &p, t.timeMs, true
		for id := repository.GroupID(1); int(id) <= w.set.Consumers; id++ {
			t.lane(id, repo).ended[r.head] = id != f.Group
		}
	}
}
