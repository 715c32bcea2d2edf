package actors

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/waystation/waystation/actors/intake"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/envelope"
	"github.com/waystation/waystation/messages/wire"
)

// entry is one entry on its way: what it carries, and who waits for it. A
// partition has two: one is in flight while the other one's packets are answered.
type entry struct {
	partition *Partition
	term      uint64
	settles   []pendingSettle
	grants    []pendingGrant
	orders    []pendingOrder
	groups    []sentGroup
	sent      []sentPacket
	queued    []packetRef // while the entry is built
	ids       []byte      // of all sent packets
	bytes     int         // of its packets, as they were charged

	result  any
	err     error
	applied *applied
	done    func(any, error)
}

// sentGroup is the packets of one repository: sent[from:to].
type sentGroup struct {
	resident *resident
	from, to int
	bytes    int // charged
}

// sentPacket is what is needed to answer a packet once its frame is gone.
type sentPacket struct {
	sink    Sink
	index   uint64
	flight  *flight
	arrived time.Duration
	id, end uint32 // in ids
}

// loopState belongs to the partition's goroutine.
type loopState struct {
	entries   [2]entry
	inFlight  *entry // proposed, not finished
	finished  *entry // finished, its packets are not answered
	led       uint64 // the term that the listener knows of, or 0
	builder   repository.EntryBuilder
	answers   answers
	linger    linger
	timer     *time.Timer
	lingering bool
	until     time.Duration // few packets wait until then, or 0
	beat      int64         // in which the last entry was proposed
}

func (l *loopState) init(p *Partition) {
	for i := range l.entries {
		e := &l.entries[i]
		e.partition = p
		e.done = e.finish // once, so that a proposal does not allocate it
	}
	l.linger.most = p.relay.cfg.Linger
	l.timer = time.NewTimer(time.Hour)
	l.timer.Stop()
}

// finish is called once for each proposal, from the engine.
func (e *entry) finish(result any, err error) {
	e.result, e.err = result, err
	e.partition.finished <- e // has room: one entry is in flight
}

// run is the partition's loop: one entry in flight; what gathers meanwhile is the
// next one. No timer decides the size of an entry, the queue does.
func (p *Partition) run() {
	defer p.relay.loops.Done()
	defer p.loop.timer.Stop()
	for {
		select {
		case <-p.wake:
		case e := <-p.finished:
			p.finish(e)
		case <-p.loop.timer.C:
			p.loop.lingering = false
		case <-p.quit:
			p.quitLoop()
			return
		}
		p.follow()
		p.propose()
		p.answer()
		p.tellDrained()
	}
}

// finish answers the commands of an entry. That comes before the next entry is
// filled, so that a grant which follows from a settlement does not wait for
// another round; the packets' answers come after.
func (p *Partition) finish(e *entry) {
	p.loop.inFlight, p.loop.finished = nil, e
	p.loop.until = 0
	e.applied, _ = e.result.(*applied)
	e.result = nil
	var err error
	switch {
	case e.err != nil:
		err = p.relay.refusalOf(e.err)
	case e.applied == nil:
		err = refusedInternal
	case e.applied.effects.Results.Void:
		err = refusedNotLeader
	}
	e.answerCommands(err)
	if e.applied == nil {
		return
	}
	res := &e.applied.effects.Results
	p.count(res)
	if len(res.Lanes) > 0 && p.loop.led == e.term {
		if l := p.relay.listener(); l != nil {
			l.Lanes(p, res.Lanes)
		}
	}
}

func (e *entry) answerCommands(err error) {
	res := &repository.Results{}
	if e.applied != nil {
		res = &e.applied.effects.Results
	}
	for i := range e.settles {
		var out repository.SettleOutcome
		if err == nil {
			out = res.Settles[i]
		}
		e.settles[i].done(out, err)
	}
	for i := range e.grants {
		if err != nil {
			e.grants[i].done(nil, err)
			continue
		}
		e.grants[i].done(&res.Grants[i], nil)
	}
	for i := range e.orders {
		if err != nil {
			e.orders[i].done(nil, err)
			continue
		}
		e.orders[i].done(res, nil)
	}
}

// count adds up what an entry ended.
func (p *Partition) count(res *repository.Results) {
	m := p.relay.metrics
	m.deduplicated.Add(float64(res.Deduped))
	for _, x := range res.Ended {
		m.dead.WithLabelValues(p.groupName(x.Group), x.Reason.String()).Add(float64(x.Count))
	}
}

func (p *Partition) groupName(id repository.GroupID) (name string) {
	_ = p.View(func(m *repository.Machine) error { // the callback has no error
		for _, g := range m.Groups() {
			if g.ID == id {
				name = g.Name
			}
		}
		return nil
	})
	return name
}

// propose fills an entry and proposes it, if none is in flight.
func (p *Partition) propose() {
	l := &p.loop
	if l.inFlight != nil {
		return
	}
	e := &l.entries[0]
	if e == l.finished {
		e = &l.entries[1]
	}
	if !p.fill(e) {
		return
	}
	data := e.build(&l.builder, p.relay)
	p.relay.metrics.batchPackets.Observe(float64(len(e.sent)))
	l.inFlight = e
	l.beat = p.relay.beat.proposed(p.relay.now(), len(e.sent))
	p.relay.proposer.Propose(p.group, e.term, data, e.done)
}

// fill takes what waits, as far as an entry has room. It answers false if there is
// nothing to propose, or it pays to wait.
func (p *Partition) fill(e *entry) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resting = false
	e.term = p.term.Load()
	commands := p.settles.len() + p.grants.len() + p.orders.len()
	if e.term == 0 || commands+p.batcher.Packets() == 0 {
		p.loop.until = 0
		p.waiting = true
		return false
	}
	urgent := commands > 0 || p.draining
	rest, rested := p.rests(urgent)
	if rest {
		return false
	}
	if p.lingers(urgent || rested) {
		p.waiting = true
		return false
	}
	cfg := &p.relay.cfg
	room := p.takeCommands(e, cfg.EntryBytes)
	e.bytes, _ = p.batcher.Fill(room, cfg.EntryPackets, func(_ *intake.Flow[packetRef], items []intake.Item[packetRef]) {
		g := sentGroup{resident: items[0].Value.resident, from: len(e.queued)}
		for i := range items {
			e.queued = append(e.queued, items[i].Value)
			g.bytes += items[i].Size
		}
		g.to = len(e.queued)
		e.groups = append(e.groups, g)
	})
	return true
}

// rests says whether the next entry waits for the node's beat, and whether it has
// waited. Its packets came while the last one was under way, or since, and are not
// yet many.
func (p *Partition) rests(urgent bool) (rest, rested bool) {
	l := &p.loop
	if urgent || p.batcher.Packets() >= manyPackets || p.relay.alone(p.group) {
		l.until = 0
		return false, false
	}
	now := p.relay.now()
	if l.until == 0 {
		l.until = p.relay.beat.next(now, l.beat)
	}
	switch {
	case l.until == 0:
		return false, false
	case now >= l.until:
		l.until = 0
		return false, true
	}
	p.resting = true
	l.timer.Reset(l.until - now)
	return true, false
}

// lingers says whether it pays to wait for company.
func (p *Partition) lingers(urgent bool) bool {
	l := &p.loop
	if l.lingering && !urgent && p.batcher.Packets() < fewPackets {
		return true
	}
	l.lingering = false
	wait := l.linger.ask(p.batcher.Packets(), urgent || l.finished != nil)
	if wait > 0 {
		l.lingering = true
		l.timer.Reset(wait)
	}
	return wait > 0
}

// commandSize is about what a command takes beside its texts.
const commandSize = 64

// takeCommands moves the commands that fit into the entry, settlements before
// grants before the others: what is settled in an entry can be granted in it. It
// answers how many bytes are left for packets; of that there is always a half, so
// that neither starves the other.
func (p *Partition) takeCommands(e *entry, limit int) (room int) {
	used := 0
	for p.settles.len() > 0 && used < limit/2 {
		s := p.settles.pop()
		used += commandSize + len(s.settle.Repo) + len(s.settle.Error)
		for i := range s.settle.Results {
			used += len(s.settle.Results[i].Result)
		}
		e.settles = append(e.settles, s)
	}
	for p.settles.len() == 0 && p.grants.len() > 0 && used < limit/2 {
		g := p.grants.pop()
		used += commandSize + len(g.grant.Repo) + len(g.grant.Session)
		e.grants = append(e.grants, g)
	}
	for p.settles.len() == 0 && p.grants.len() == 0 && p.orders.len() > 0 && used < limit/2 {
		e.orders = append(e.orders, p.orders.pop())
		used += commandSize
	}
	return max(limit-used, limit/2)
}

// build makes the entry's bytes, and gives the packets' frames and budget back:
// from here on their bytes are the entry's.
func (e *entry) build(b *repository.EntryBuilder, relay *Relay) []byte {
	b.Reset(make([]byte, 0, e.size()))
	for i := range e.settles {
		b.AddSettle(e.settles[i].settle)
	}
	for i := range e.grants {
		b.AddGrant(e.grants[i].grant)
	}
	for i := range e.orders {
		e.orders[i].add(b)
	}
	if len(e.groups) > 0 {
		b.BeginPublish()
		for i := range e.groups {
			e.addGroup(b, &e.groups[i])
		}
		b.EndPublish()
		relay.intake.releaseGroups(e.groups)
		e.letFramesGo()
	}
	return b.Bytes()
}

func (e *entry) size() int {
	n := envelope.Size + commandSize + e.bytes + (len(e.settles)+len(e.grants)+len(e.orders))*2*commandSize
	for i := range e.groups {
		n += len(e.groups[i].resident.repo)
	}
	for i := range e.settles {
		for j := range e.settles[i].settle.Results {
			n += len(e.settles[i].settle.Results[j].Result)
		}
	}
	return n
}

func (e *entry) addGroup(b *repository.EntryBuilder, g *sentGroup) {
	b.BeginRepo(g.resident.repo)
	for i := g.from; i < g.to; i++ {
		q := &e.queued[i]
		p := q.in.packet(q.at)
		addPacket(b, p)
		from := len(e.ids)
		e.ids = append(e.ids, p.ID...)
		e.sent = append(e.sent, sentPacket{
			sink: q.in.sink, index: q.in.frame.index(q.at), flight: q.flight, arrived: q.in.arrived,
			id: uint32(from), end: uint32(len(e.ids)),
		})
	}
	b.EndRepo()
}

// crcField is the key of CodePacket.content_crc32c, fixed32.
const crcField = 13<<3 | 5

// addPacket copies a packet into the entry: as it came, and with its content's
// checksum behind it if the sender gave none, so that a worker can check it.
func addPacket(b *repository.EntryBuilder, p *wire.Packet) {
	item := repository.PublishItem{
		Raw: p.Raw, ContentCRC: p.CRC, Rank: repository.RankOf(p.Priority), ID: p.ID,
		TTLMs: uint64(p.TTLMs), DeliverAfterMs: uint64(p.DeliverAfterMs),
	}
	if p.HasPosition {
		item.Producer, item.Epoch, item.Sequence = p.Producer, p.Epoch, p.Sequence
	}
	table := crc32.MakeTable(crc32.Castagnoli) // the package's own table: no cost
	item.RawCRC = crc32.Checksum(p.Raw, table)
	var tail [5]byte
	if !p.HasCRC {
		tail[0] = crcField
		binary.LittleEndian.PutUint32(tail[1:], p.CRC)
		item.Tail = tail[:]
		item.RawCRC = crc32.Update(item.RawCRC, table, item.Tail)
	}
	b.AddPacket(&item)
}

// letFramesGo drops the packets' references, runs of one frame at once.
func (e *entry) letFramesGo() {
	for i := 0; i < len(e.queued); {
		in, n := e.queued[i].in, 1
		for i+n < len(e.queued) && e.queued[i+n].in == in {
			n++
		}
		in.drop(n)
		i += n
	}
	clear(e.queued)
	e.queued = e.queued[:0]
}
