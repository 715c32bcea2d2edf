package sim

import (
	"encoding/binary"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/entrycache"
	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/messages/envelope"
	"github.com/waystation/waystation/storage"
)

// group is a replica that runs, and what the engine has around it.
type group struct {
	life    *life
	w       *world
	id      storage.GroupID
	replica storage.ReplicaID
	core    *replica.Replica
	sm      machine
	part    *partition // sm, or nil
	meta    *registry  // sm, or nil
	cache   *entrycache.Cache

	applied   uint64
	at        storage.Position // what is applied, with its term
	conf      replica.Conf     // as the apply loop has it
	install   *install
	incoming  *parcel // all of it is staged
	accepted  bool    // raft took it
	leads     uint64  // the term in which it leads, or 0
	leader    *leader
	registrar uint64 // the term in which it leads meta and has applied its first entry
	proposals uint64
	waiters   map[waitKey]*waiting
	cut       *cut
	ticking
}

// waiting is who wants to know what became of a proposal.
type waiting struct {
	key     waitKey
	decided func(index, term uint64, res any)
	unknown func()
}

type waitKey struct{ term, proposal uint64 }

// cut is a truncation in the making.
type cut struct {
	upTo    uint64
	floor   uint64 // what lies below is not kept for anybody
	spilled bool
}

type logItem struct {
	group    *group
	job      *replica.AppendJob
	truncate storage.Position
}

type applyItem struct {
	group *group
	job   *replica.ApplyJob
	done  int
}

// drain takes all that the core wants done.
func (g *group) drain() {
	l := g.life
	for {
		jobs, ok := g.core.Ready()
		if !ok {
			g.calmed()
			return
		}
		if jobs.Change != nil {
			g.changed(*jobs.Change)
		}
		if jobs.Append != nil && jobs.Append.Install != nil {
			g.accepted = true
		}
		for _, m := range jobs.Snapshots {
			l.wanted = append(l.wanted, wanted{g, g.leads, m})
		}
		if jobs.Append != nil {
			l.writes = append(l.writes, logItem{group: g, job: jobs.Append})
		}
		if jobs.Apply != nil {
			l.applies = append(l.applies, applyItem{group: g, job: jobs.Apply})
		}
		l.send(g.id, jobs.Send)
		for _, r := range jobs.Reads {
			if g.leader != nil {
				g.leader.confirmed(r.ID)
			}
		}
	}
}

// changed answers what an ended leadership leaves behind.
func (g *group) changed(c replica.Change) {
	leads := uint64(0)
	if c.Leads {
		leads = c.Term
		g.w.oracle.leads(g, c.Term)
	}
	g.w.note("%d.%d term %d leader %d", g.life.id, g.id, c.Term, c.Leader)
	if old := g.leads; old != leads && g.leader != nil {
		g.leader.stop()
		g.leader = nil
	}
	if g.registrar != leads {
		g.registrar = 0
	}
	g.leads = leads
	for _, x := range g.waiting() {
		if k := x.key; k.term != c.Term || leads == 0 {
			delete(g.waiters, k)
			x.unknown()
		}
	}
}

// waiting lists the waiters in the order of their proposals.
func (g *group) waiting() (list []*waiting) {
	for p := uint64(1); p <= g.proposals && len(list) < len(g.waiters); p++ {
		for k, e := range g.waiters {
			if k.proposal == p {
				list = append(list, e)
			}
		}
	}
	return list
}

// propose hands an entry to raft; e is nil for a command of meta's.
func (g *group) propose(x *waiting, data []byte, e *entry) error {
	g.proposals++
	x.key.proposal = g.proposals
	env := envelope.Envelope{Version: envelope.Version1, Kind: data[1], Term: x.key.term, Proposal: g.proposals, TimeMs: g.w.logNow(g)}
	env.Put(data)
	g.wake()
	if err := g.core.Propose(x.key.term, data); err != nil {
		return err
	}
	g.w.oracle.proposed(data, e)
	g.waiters[x.key] = x
	return nil
}

// proposeConf has raft change the configuration.
func (g *group) proposeConf(x *waiting, cc *pb.ConfChangeV2) error {
	g.proposals++
	x.key.proposal = g.proposals
	cc.Context = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, x.key.term), x.key.proposal)
	g.wake()
	if err := g.core.ProposeConf(x.key.term, cc); err != nil {
		return err
	}
	g.waiters[x.key] = x
	return nil
}

func (l *life) step(o op) bool {
	switch o.kind {
	case opTick:
		l.tick(int(min(max(o.n, 1), maxLump)))
		return true
	case opGone:
		return o.b > 0 && o.b < len(l.w.nodes) && l.gone(o.b)
	case opWrite:
		return l.write(max(int(o.n), 1))
	case opSync:
		return l.sync()
	case opApply:
		return l.apply(max(int(o.n), 1))
	case opFlush:
		l.flush()
		return true
	case opCrash:
		l.crash(o.n)
		return true
	case opPhoto:
		return l.photo()
	case opKeep:
		return l.keep(o.n)
	case opDraw:
		return l.draw()
	case opCall:
		return l.tryCall(o.b)
	}
	g := l.group(storage.GroupID(o.b))
	if g == nil {
		return false
	}
	switch o.kind {
	case opPropose:
		return g.leader != nil && g.leader.fill()
	case opDead:
		return g.leader != nil && g.leader.endDead(o.n, o.c != 0)
	case opChores:
		return g.leader != nil && g.leader.chores(uint32(o.n))
	case opSpill:
		return g.spill(max(int(o.n), 1))
	case opTruncate:
		return g.truncate(o.n, o.c != 0)
	case opRead:
		return g.install == nil && g.part != nil && g.w.oracle.read(g, o.n)
	case opVerify:
		if g.install != nil {
			return false // its state is being replaced
		}
		g.w.oracle.verify(g)
		return true
	case opTransfer:
		for _, id := range g.core.Conf().Voters {
			if g.w.machineWith(id) == o.c {
				g.wake()
				_ = g.core.TransferLeader(id)
				g.drain()
				return true
			}
		}
	case opMove:
		return g.move()
	case opInstall:
		return g.installStep()
	}
	return false
}

// write puts what waits into one batch, as the engine's log writer does. It is
// synced by an event of its own, if it must be.
func (l *life) write(most int) bool {
	if l.written > 0 || len(l.writes) == 0 {
		return false
	}
	batch := l.logs.NewBatch()
	touched := map[*group]bool{}
	sync, some, n := false, false, 0
	for ; n < min(most, len(l.writes)); n++ {
		it := &l.writes[n]
		if g := it.group; g.install != nil || it.job != nil && it.job.Install != nil {
			if n > 0 {
				break // what came before goes first
			}
			if g.install == nil {
				g.install = &install{job: it.job, parcel: g.incoming}
			} else {
				g.install.waiting = append(g.install.waiting, *it)
			}
			l.writes = append([]logItem(nil), l.writes[1:]...)
			batch.Discard()
			return true
		}
		if it.job == nil {
			batch.Truncate(it.group.id, it.truncate)
			some = true
			continue
		}
		if it.job.StaleFrom != 0 && touched[it.group] {
			break
		}
		touched[it.group] = true
		if it.job.StaleFrom != 0 {
			batch.DeleteFrom(it.group.id, it.job.StaleFrom, it.job.StaleTo)
		}
		batch.Append(it.group.id, it.job.Entries)
		if it.job.HardState != nil {
			batch.SetHardState(it.group.id, *it.job.HardState)
		}
		sync, some = sync || it.job.Sync, some || !it.job.Empty()
	}
	if some {
		l.w.must(batch.Commit(false))
		for i := range l.writes[:n] {
			l.w.oracle.wrote(l.node, &l.writes[i])
		}
	} else {
		batch.Discard()
	}
	l.written = n
	if !sync {
		l.report()
	}
	return true
}

func (l *life) sync() bool {
	if l.written == 0 {
		return false
	}
	l.w.must(l.log.Flush())
	l.synced()
	l.report()
	return true
}

// synced notes that all that was written is durable.
func (l *life) synced() {
	for _, m := range l.disk {
		if m != nil {
			m.promised = m.hard
			m.synced = terms{m.written.truncated, append([]uint64(nil), m.written.list...)}
		}
	}
}

// report tells the cores what is on disk.
func (l *life) report() {
	done := append([]logItem(nil), l.writes[:l.written]...)
	l.writes, l.written = append([]logItem(nil), l.writes[l.written:]...), 0
	for _, it := range done {
		if it.job != nil {
			it.group.wake()
			it.group.core.Appended(it.job)
			it.group.drain()
		}
	}
}

// apply is a turn of the apply loop.
func (l *life) apply(most int) bool {
	if len(l.applies) == 0 {
		return false
	}
	for ; most > 0 && len(l.applies) > 0; most-- {
		it := &l.applies[0]
		g, job := it.group, it.job
		g.applyOne(job.Entries[it.done])
		if it.done++; it.done == len(job.Entries) {
			l.applies = append([]applyItem(nil), l.applies[1:]...)
			g.wake()
			g.core.Applied(job)
			g.drain()
		}
	}
	return true
}

func (g *group) applyOne(e storage.Entry) {
	if replica.IsConfChange(&e) {
		g.applyConf(e)
		return
	}
	res := g.sm.apply(g, e)
	g.applied, g.at = e.Index, storage.Position{Index: e.Index, Term: e.Term}
	if len(e.Data) == 0 {
		switch {
		case g.leads != e.Term:
		case g.part != nil && (g.leader == nil || g.leader.term != e.Term): // not one in the midst of the term
			g.leader = newLeader(g, e.Term)
		case g.part != nil:
		default:
			g.registrar = e.Term
		}
		return
	}
	env, _, err := envelope.Parse(e.Data)
	g.w.must(err)
	if env.Term != e.Term {
		return
	}
	k := waitKey{env.Term, env.Proposal}
	if x := g.waiters[k]; x != nil {
		delete(g.waiters, k)
		x.decided(e.Index, e.Term, res)
	}
}

func (g *group) applyConf(e storage.Entry) {
	cc, err := replica.ConfChange(&e)
	g.w.must(err)
	next, refused := g.conf.Next(cc)
	g.sm.applyConf(g, e, next)
	g.applied, g.at, g.conf = e.Index, storage.Position{Index: e.Index, Term: e.Term}, next
	if c := cc.GetContext(); len(c) == 16 {
		k := waitKey{binary.BigEndian.Uint64(c), binary.BigEndian.Uint64(c[8:])}
		if x := g.waiters[k]; x != nil && k.term == e.Term {
			delete(g.waiters, k)
			x.decided(e.Index, e.Term, refused)
		}
	}
}

// truncate begins to cut the log off.
func (g *group) truncate(percent uint64, harsh bool) bool {
	s := g.core.Status()
	if g.cut != nil || g.install != nil || g.applied < s.First {
		return false
	}
	g.cut = &cut{upTo: s.First + (g.applied-s.First)*min(percent, 100)/100}
	if harsh {
		g.cut.floor = g.cut.upTo
	}
	return true
}

// spill copies what the cut would lose, a slice at a time.
func (g *group) spill(most int) bool {
	if g.cut == nil || g.cut.spilled || g.install != nil {
		return false
	}
	g.cut.spilled = g.sm.spill(g, g.cut.upTo, most)
	return true
}

// entryData returns the bytes of an applied entry, from the cache or the log.
func (g *group) entryData(index uint64) ([]byte, error) {
	if data, ok := g.cache.Data(index); ok {
		return data, nil
	}
	ents, err := g.life.logs.Entries(g.id, index, index+1, 0)
	if err != nil {
		return nil, err
	}
	return ents[0].Data, nil
}

// flush makes the state durable, and truncates what was spilled.
func (l *life) flush() {
	l.w.must(l.states.Flush())
	r, release := l.states.Durable()
	defer release()
	for _, g := range l.groups {
		if g.cut == nil || !g.cut.spilled || g.install != nil {
			continue
		}
		if !g.sm.durable(r, g.cut.upTo) {
			g.w.violate("node %d: the flushed state of group %d is not durable at %d", l.id, g.id, g.cut.upTo)
		}
		g.wake()
		job, ok, err := g.core.Truncate(g.cut.upTo, g.cut.floor)
		l.w.must(err)
		if ok {
			l.writes = append(l.writes, logItem{group: g, truncate: job.To})
		}
		g.cut = nil
		g.drain()
	}
}
