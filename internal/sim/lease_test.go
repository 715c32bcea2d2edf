package sim

import (
	"time"

	"github.com/waystation/waystation/actors/lease"
	"github.com/waystation/waystation/actors/repository"
)

// keeper looks after a partition's leases for one term: the part of the leader
// that workers talk to.
type keeper struct {
	leases   map[laneKey]*openLease
	due      lease.Deadlines[*openLease]
	pending  map[laneKey]bool // a grant is under way
	renewals []renewal
	round    []renewal // wait for the quorum
	rounds   uint64
	making   map[repository.GroupID]bool
}

type laneKey struct {
	group repository.GroupID
	repo  string
}

type openLease struct {
	key      laneKey
	token    repository.Token
	session  string
	deadline lease.Deadline[*openLease]
	expiring bool
}

type renewal struct {
	key   laneKey
	token repository.Token
	done  func(ok bool)
}

type settleOrder struct {
	cmd  repository.Settle
	done func(out *repository.SettleOutcome) // nil: unknown
}

type grantOrder struct {
	cmd  repository.Grant
	done func(res *repository.GrantResult) // nil: unknown
}

func (d *leader) length() time.Duration {
	return time.Duration(d.g.w.set.LeaseMs) * time.Millisecond
}

// load finds the open leases, each as if it were renewed now.
func (d *leader) load() {
	k := &d.keeper
	*k = keeper{leases: map[laneKey]*openLease{}, pending: map[laneKey]bool{}, making: map[repository.GroupID]bool{}}
	d.g.w.must(d.g.part.machine.Leases(func(x repository.Lease) bool {
		d.register(laneKey{x.Group, x.Repo}, x.Token, x.Session)
		return true
	}))
}

func (d *leader) register(key laneKey, token repository.Token, session string) {
	if old := d.leases[key]; old != nil {
		d.due.Remove(&old.deadline)
	}
	l := &openLease{key: key, token: token, session: session}
	l.deadline.Value = l
	d.leases[key] = l
	d.due.Set(&l.deadline, d.g.w.now+d.length())
}

func (d *leader) forget(key laneKey, token repository.Token) {
	if l := d.leases[key]; l != nil && l.token == token {
		d.due.Remove(&l.deadline)
		delete(d.leases, key)
	}
}

// pull gives a worker its open grants again, if it asks for them, else a new one.
func (d *leader) pull(x *worker, again bool, give func(h *hold), none func()) {
	m, w := d.g.part.machine, d.g.w
	defer none()
	if _, ok := m.GroupByName(w.consumerConfig(x.consumers).Name); !ok {
		d.make(x.consumers)
		return
	}
	if again {
		for _, repo := range w.repos(int(d.g.id)) {
			if l := d.leases[laneKey{x.consumers, repo}]; l != nil && l.session == x.name {
				d.redeliver(l, give)
			}
		}
	}
	if m.Backfilling(x.consumers) && !d.making[x.consumers] {
		d.making[x.consumers] = true
		d.orders = append(d.orders, order{
			add:  func(b *repository.EntryBuilder) { b.AddBackfill(x.consumers, 1) },
			done: func(*repository.Results, bool) { d.making[x.consumers] = false },
		})
	}
	lanes, _, ready, err := m.Runnable(x.consumers, nil, w.logNow(d.g), 5, nil)
	w.note("%s finds %d lanes at %d, next at %d, log time %d", x.name, len(lanes), w.logNow(d.g), ready, m.LogTime())
	w.must(err)
	for _, lane := range lanes {
		key := laneKey{x.consumers, lane.Repo}
		if d.pending[key] || d.leases[key] != nil {
			continue
		}
		d.grant(x, key, give)
		return
	}
}

func (d *leader) make(id repository.GroupID) {
	if d.making[id] {
		return
	}
	d.making[id] = true
	c := d.g.w.consumerConfig(id)
	d.groups = append(d.groups, c)
	d.orders = append(d.orders, order{
		add:  func(b *repository.EntryBuilder) { b.AddSetGroup(&c) },
		done: func(*repository.Results, bool) { d.making[id] = false },
	})
}

func (d *leader) grant(x *worker, key laneKey, give func(h *hold)) {
	d.pending[key] = true
	d.grants = append(d.grants, grantOrder{
		cmd: repository.Grant{
			Group: key.group, Repo: []byte(key.repo), Session: []byte(x.name),
			MaxItems: 4, MaxBytes: 200, LeaseMs: uint32(d.g.w.set.LeaseMs),
		},
		done: func(res *repository.GrantResult) {
			delete(d.pending, key)
			if res == nil || res.Code != repository.OK {
				return
			}
			if d.g.leader == d {
				d.register(key, res.Token, x.name)
			}
			h := d.hold(key.repo, res)
			h.until = d.g.w.now + d.length()
			give(h)
		},
	})
}

// hold reads what was granted, and checks it.
func (d *leader) hold(repo string, res *repository.GrantResult) *hold {
	h := &hold{repo: repo, token: res.Token}
	for _, it := range res.Items {
		d.g.w.oracle.payload(d.g, repo, it.Seq, it.Ref)
		h.items = append(h.items, it.Seq)
	}
	return h
}

// redeliver hands an open grant out again. Its worker does not count on it before
// it has renewed it.
func (d *leader) redeliver(l *openLease, give func(h *hold)) {
	var res repository.GrantResult
	_, err := d.g.part.machine.OpenGrant(l.key.group, []byte(l.key.repo), &res)
	d.g.w.must(err)
	if res.Code == repository.OK && res.Token == l.token && len(res.Items) > 0 {
		give(d.hold(l.key.repo, &res))
	}
}

// renew is answered once a quorum has said, after it came, that this node leads.
func (d *leader) renew(g repository.GroupID, repo string, token repository.Token, done func(ok bool)) {
	d.renewals = append(d.renewals, renewal{laneKey{g, repo}, token, done})
	d.confirm()
}

func (d *leader) confirm() {
	if len(d.round) > 0 || len(d.renewals) == 0 {
		return
	}
	d.round, d.renewals = d.renewals, nil
	d.rounds++
	d.g.wake()
	if d.g.core.ReadIndex(d.rounds) != nil {
		d.round = nil
	}
	d.g.drain()
}

// confirmed is the quorum's answer.
func (d *leader) confirmed(id uint64) {
	if id != d.rounds {
		return
	}
	round := d.round
	d.round = nil
	for _, r := range round {
		l := d.leases[r.key]
		ok := l != nil && l.token == r.token && !l.expiring
		if ok {
			d.due.Set(&l.deadline, d.g.w.now+d.length())
		}
		r.done(ok)
	}
	d.confirm()
}

// tick takes leases away whose time is up.
func (d *leader) tick() {
	for {
		x, ok := d.due.Due(d.g.w.now)
		if !ok {
			return
		}
		l := x.Value
		l.expiring = true
		d.settles = append(d.settles, settleOrder{
			cmd: repository.Settle{Group: l.key.group, Repo: []byte(l.key.repo), Token: l.token, Kind: repository.SettleExpire},
			done: func(out *repository.SettleOutcome) {
				if out == nil && d.leases[l.key] == l { // try again
					l.expiring = false
					d.due.Set(&l.deadline, d.g.w.now+d.length()/4)
				}
			},
		})
	}
}

// settled follows a settlement that was decided.
func (d *leader) settled(s *repository.Settle, out *repository.SettleOutcome) {
	key := laneKey{s.Group, string(s.Repo)}
	if out.Ended {
		d.forget(key, s.Token)
	} else if l := d.leases[key]; out.Code == repository.OK && l != nil && l.token == s.Token && !l.expiring {
		d.due.Set(&l.deadline, d.g.w.now+d.length())
	}
}
