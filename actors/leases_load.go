package actors

import (
	"maps"
	"time"

	"github.com/waystation/waystation/actors/repository"
)

// load finds the leases that are open in the replicated state, each as if it were
// renewed now, and opens the groups' windows. It answers false when the term
// ended first.
func (k *keeper) load(term uint64, stop <-chan struct{}) bool {
	var open []repository.Lease
	var groups []repository.GroupConfig
	for {
		open = open[:0]
		err := k.p.View(func(m *repository.Machine) error {
			groups = m.Groups()
			return m.Leases(func(x repository.Lease) bool {
				open = append(open, x)
				return true
			})
		})
		if err == nil {
			break
		}
		k.d.log.Error("load leases", "partition", k.p.ID(), "error", err)
		select {
		case <-stop:
			return false
		case <-k.d.stopping:
			return false
		case <-time.After(retrySoon):
		}
	}
	byID := map[repository.GroupID]repository.GroupConfig{}
	for _, c := range groups {
		byID[c.ID] = c
	}
	k.mu.Lock()
	former := maps.Clone(k.leases)
	k.mu.Unlock()
	leases := make(map[laneKey]*openLease, len(open))
	for i := range open {
		if l := k.adopt(&open[i], byID, former); l != nil {
			leases[l.key()] = l
		}
	}
	k.mu.Lock()
	if k.term != term {
		k.mu.Unlock()
		k.abandon(leases)
		return false
	}
	k.leases, k.serving = leases, true
	now := k.d.mono()
	for _, l := range leases {
		k.due.Set(&l.deadline, now+l.length())
	}
	k.mu.Unlock()
	for key, l := range former {
		if leases[key] != l {
			l.end(nil)
		}
	}
	for _, g := range k.d.all() {
		if g.busy() {
			k.watch(g)
		}
	}
	return true
}

// adopt makes the lease of an open grant known to its session: the same as
// before if this node led before, else one whose packets are all handed out again.
func (k *keeper) adopt(x *repository.Lease, groups map[repository.GroupID]repository.GroupConfig, former map[laneKey]*openLease) *openLease {
	var res repository.GrantResult
	err := k.p.View(func(m *repository.Machine) error {
		_, err := m.OpenGrant(x.Group, bytesOf(x.Repo), &res)
		return err
	})
	cfg, ok := groups[x.Group]
	switch {
	case err != nil:
		k.d.log.Error("load lease", "partition", k.p.ID(), "repository", x.Repo, "group", x.Group, "error", err)
		return nil
	case !ok || res.Code != repository.OK || res.Token != x.Token || len(res.Items) == 0:
		return nil
	}
	g := k.d.consumers(cfg)
	if g == nil {
		return nil
	}
	if l := former[laneKey{x.Group, x.Repo}]; l != nil && l.token == x.Token {
		l.resume(res.Items[0].Seq)
		return l
	}
	s := g.session(x.Session, true)
	if s == nil {
		return nil
	}
	defer s.drop()
	l := newLease(s, k, x.Repo, x.LeaseMs, &res)
	l.redelivered = true
	l.batch.Inherit()
	l.promisedMs = time.Now().UnixMilli() + int64(x.LeaseMs)
	s.mu.Lock()
	s.link(l)
	s.credit.Hold(len(res.Items))
	s.queue = append(s.queue, l)
	h := s.handle
	s.mu.Unlock()
	if h != nil {
		h.signal()
	}
	return l
}

// resume goes on with a lease that this node led before.
func (l *openLease) resume(first repository.Seq) {
	l.s.mu.Lock()
	asking := l.s.asking.on
	l.s.mu.Unlock()
	l.mu.Lock()
	held := l.batch.Resume(first)
	l.redelivered = l.redelivered || asking // what was asked for was given back
	pending := l.batch.Pending() > 0
	l.mu.Unlock()
	s := l.s
	s.mu.Lock()
	s.credit.Hold(held)
	if pending {
		s.queue = append(s.queue, l)
	}
	h := s.handle
	s.mu.Unlock()
	if h != nil {
		h.signal()
	}
}

// end forgets a lease that the replicated state does not hold any more. Its open
// settlements are answered with why, or as stale.
func (l *openLease) end(why *Refusal) {
	ws := l.k.d.workset()
	l.k.forget(l)
	l.mu.Lock()
	answers, held, unseen := l.batch.End(ws.answers[:0])
	ws.answers = answers
	ws.answer(l, why)
	l.mu.Unlock()
	s := l.s
	s.mu.Lock()
	linked := s.unlink(l)
	s.credit.Release(held + unseen)
	s.giveBack(l, unseen)
	s.mu.Unlock()
	ws.submit()
	if linked {
		s.drop()
	}
}

// suspend fails what is open of a lease, because this node leads no more.
func (l *openLease) suspend(why *Refusal) {
	ws := l.k.d.workset()
	l.mu.Lock()
	if l.batch.Flying() {
		why = refusedSettleUnknown // its entry may still be committed
	}
	answers, held, unseen := l.batch.Suspend(ws.answers[:0])
	ws.answers = answers
	ws.fail(l, why)
	l.mu.Unlock()
	s := l.s
	s.mu.Lock()
	s.credit.Lose(held)
	s.credit.Release(unseen)
	s.giveBack(l, unseen)
	s.mu.Unlock()
	ws.submit()
}

// abandon forgets leases that were adopted in vain.
func (k *keeper) abandon(leases map[laneKey]*openLease) {
	for _, l := range leases {
		l.suspend(refusedNotLeader)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, l := range leases {
		k.leases[key] = l
	}
}
