package sim

import (
	"hash/crc32"
	"time"

	"github.com/waystation/waystation/actors/intake"
	"github.com/waystation/waystation/actors/repository"
)

// leader is what a partition has on the node that leads it, in one term.
type leader struct {
	g        *group
	term     uint64
	repos    map[string]*resident
	batcher  intake.Batcher[queued]
	inFlight *entry
	settles  []settleOrder
	grants   []grantOrder
	orders   []order
	groups   []repository.GroupConfig // among the orders
	configed bool
	busy     bool // with chores
	keeper
}

// resident is a repository's actor: its filter.
type resident struct {
	g      *group
	repo   string
	filter *intake.Filter[waiter]
	flow   intake.Flow[queued]
}

// waiter is who wants to know what became of a packet.
type waiter struct {
	p    *sent
	take func(reply)
}

type queued struct {
	waiter
	r  *resident
	fl *intake.Flight[waiter]
}

// order is a command beside packets.
type order struct {
	dead *deadOrder // or nil
	add  func(b *repository.EntryBuilder)
	done func(res *repository.Results, ok bool)
}

// entry is one entry on its way.
type entry struct {
	leader  *leader
	term    uint64
	packets []queued
	settles []settleOrder
	grants  []grantOrder
	orders  []order
	groups  []repository.GroupConfig
}

func newLeader(g *group, term uint64) *leader {
	d := &leader{g: g, term: term, repos: map[string]*resident{}}
	// Another leader's clock may have been ahead: what the state has seen is past.
	g.life.clock.Raise(g.part.machine.LogTime() * int64(time.Millisecond))
	d.load()
	return d
}

func (d *leader) resident(repo string) *resident {
	r := d.repos[repo]
	if r == nil {
		r = &resident{g: d.g, repo: repo, filter: intake.NewFilter[waiter](d.g.w.set.Window, false)}
		d.repos[repo] = r
	}
	return r
}

// Position implements intake.State.
func (r *resident) Position(producer []byte) (epoch, last uint64, known bool, err error) {
	return r.g.part.machine.Position([]byte(r.repo), producer)
}

// Receipt implements intake.State.
func (r *resident) Receipt(producer []byte, epoch, sequence uint64) (repository.Seq, repository.Code, error) {
	return r.g.part.machine.Receipt([]byte(r.repo), producer, epoch, sequence)
}

// FindID implements intake.State.
func (r *resident) FindID(id []byte) (repository.Seq, uint32, bool, error) {
	return r.g.part.machine.FindID([]byte(r.repo), id)
}

// offer takes a frame: packets of one repository.
func (d *leader) offer(packets []*sent, take func(reply)) {
	r := d.resident(packets[0].repo)
	for _, p := range packets {
		view := intake.Packet{ID: p.id, ContentCRC: p.crc}
		if p.position > 0 {
			view.Producer, view.Epoch, view.Sequence = []byte(p.producer), p.epoch, p.position
		}
		v, err := r.filter.Offer(&view, r)
		d.g.w.must(err)
		d.g.w.note("node %d judges %s: %d %+v", d.g.life.id, p, v.Action, v.Result)
		w := waiter{p, take}
		switch v.Action {
		case intake.Propose:
			d.batcher.Push(&r.flow, queued{w, r, v.Flight}, len(p.content))
		case intake.Attach:
			r.filter.Attach(v.Flight, p.crc, w)
		case intake.Answer:
			take(reply{p: p, result: v.Result})
		case intake.Busy:
			take(reply{p: p, failure: busy})
		}
	}
}

// wants says whether there is something to propose, and none under way.
func (d *leader) wants() bool {
	return d.inFlight == nil && (!d.configed || d.batcher.Packets()+len(d.settles)+len(d.grants)+len(d.orders) > 0)
}

// fill makes an entry of what waits, and proposes it, if none is in flight.
func (d *leader) fill() bool {
	if !d.wants() {
		return false
	}
	e := &entry{leader: d, term: d.term}
	var b repository.EntryBuilder
	b.Reset(nil)
	if !d.configed {
		d.configed = true
		c := repository.DefaultConfig()
		c.DedupWindowMs = uint64(d.g.w.set.WindowMs)
		if ms := d.g.w.set.RetentionMs; ms > 0 {
			c.RetentionMs = uint64(ms)
		}
		b.AddConfigure(&c)
	}
	e.settles, e.grants, e.orders, e.groups = d.settles, d.grants, d.orders, d.groups
	d.settles, d.grants, d.orders, d.groups = nil, nil, nil, nil
	for i := range e.settles {
		b.AddSettle(&e.settles[i].cmd)
	}
	for i := range e.grants {
		b.AddGrant(&e.grants[i].cmd)
	}
	for _, o := range e.orders {
		o.add(&b)
	}
	b.BeginPublish()
	d.batcher.Fill(1<<16, d.g.w.set.Entry, func(_ *intake.Flow[queued], items []intake.Item[queued]) {
		b.BeginRepo([]byte(items[0].Value.r.repo))
		for _, it := range items {
			it.Value.p.add(&b)
			e.packets = append(e.packets, it.Value)
		}
		b.EndRepo()
	})
	b.EndPublish()
	x := &waiting{key: waitKey{term: d.term}, unknown: e.unknown, decided: func(index, term uint64, res any) {
		e.decided(index, term, res.(*repository.Results))
	}}
	if err := d.g.propose(x, b.Bytes(), e); err != nil {
		e.fail(intake.NotProposed)
	} else {
		d.inFlight = e
	}
	d.g.drain()
	return true
}

// chores proposes what the state asks for: to expire, to sweep, to forget.
func (d *leader) chores(limit uint32) bool {
	if d.busy {
		return false
	}
	due, err := d.g.part.machine.Due(d.g.w.logNow(d.g))
	d.g.w.must(err)
	if !due.Any() {
		return false
	}
	d.busy = true
	d.orders = append(d.orders, order{
		add: func(b *repository.EntryBuilder) {
			if due.Park {
				b.AddPark(limit)
			}
			if due.Expire {
				b.AddExpire(limit)
			}
			if due.Sweep {
				b.AddSweep(limit)
			}
			if due.Housekeep {
				b.AddHousekeep(limit)
			}
		},
		done: func(res *repository.Results, _ bool) {
			d.busy = false
			if res != nil && res.Worked > 0 {
				d.g.w.progress++
			}
		},
	})
	return true
}

// stop ends the leadership: what waits is refused; what is in flight is answered
// by its entry.
func (d *leader) stop() {
	d.batcher.DrainAll(func(items []intake.Item[queued]) {
		for _, it := range items {
			it.Value.take(reply{p: it.Value.p, failure: notLeader})
		}
	})
	for _, name := range d.g.w.repos(int(d.g.id)) {
		if r := d.repos[name]; r != nil {
			r.filter.Abandon(func(w waiter) { w.take(reply{p: w.p, failure: unknown}) })
		}
	}
	(&entry{leader: d, settles: d.settles, grants: d.grants, orders: d.orders}).refuse()
	d.settles, d.grants, d.orders, d.groups = nil, nil, nil, nil
}

// refuse answers commands whose outcome nobody here will know.
func (e *entry) refuse() {
	for _, s := range e.settles {
		s.done(nil)
	}
	for _, g := range e.grants {
		g.done(nil)
	}
	for _, o := range e.orders {
		o.done(nil, false)
	}
}

// over says that the leadership which proposed the entry ended.
func (e *entry) over() bool { return e.leader.g.leader != e.leader }

func (e *entry) unknown() { e.fail(intake.Unknown) }

// fail answers what Apply did not decide, or nobody here can know.
func (e *entry) fail(f intake.Failure) {
	code := unknown
	if f == intake.NotProposed {
		code = notLeader
	}
	for i := range e.packets {
		q := &e.packets[i]
		q.take(reply{p: q.p, failure: code})
		e.resolve(q, intake.Outcome{Failure: f})
	}
	e.refuse()
	e.end()
}

func (e *entry) end() {
	if e.leader.inFlight == e {
		e.leader.inFlight = nil
	}
}

// decided answers with what Apply made of the entry.
func (e *entry) decided(index, term uint64, res *repository.Results) {
	if res.Void {
		e.fail(intake.NotProposed)
		return
	}
	w := e.leader.g.w
	w.oracle.durable(e.leader.g, index, term)
	for i := range e.packets {
		q := &e.packets[i]
		r := res.Publish[i]
		q.take(reply{p: q.p, result: r})
		e.resolve(q, intake.Outcome{Result: r})
	}
	for i := range e.settles {
		s := &e.settles[i]
		if !e.over() {
			e.leader.settled(&s.cmd, &res.Settles[i])
		}
		s.done(&res.Settles[i])
	}
	for i := range e.grants {
		e.grants[i].done(&res.Grants[i])
	}
	for _, o := range e.orders {
		o.done(res, true)
	}
	e.end()
}

func (e *entry) resolve(q *queued, o intake.Outcome) {
	if q.fl == nil || e.over() {
		return
	}
	q.fl.Outcome = o
	q.r.filter.Resolve(q.fl, func(w waiter, o intake.Outcome) {
		switch o.Failure {
		case intake.Decided:
			w.take(reply{p: w.p, result: o.Result})
		case intake.NotProposed:
			w.take(reply{p: w.p, failure: notLeader})
		default:
			w.take(reply{p: w.p, failure: unknown})
		}
	})
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (p *sent) add(b *repository.EntryBuilder) {
	item := repository.PublishItem{
		Raw: p.content, RawCRC: p.crc, ContentCRC: p.crc, Rank: p.rank, ID: p.id, TTLMs: p.ttl, DeliverAfterMs: p.delay,
	}
	if p.position > 0 {
		item.Producer, item.Epoch, item.Sequence = []byte(p.producer), p.epoch, p.position
	}
	b.AddPacket(&item)
}
