package sim

import (
	"bytes"
	"slices"
	"sort"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// oracle sees everything, and knows what must never be.
type oracle struct {
	w      *world
	groups map[storage.GroupID]*truth
	view   *meta.View // the newest
	// retired are the replicas that meta has given up.
	retired map[storage.ReplicaID]bool
	// entries are all that were ever proposed, by the hash of their bytes.
	entries map[uint64]*entry
}

// truth is what was committed in a group.
type truth struct {
	first   uint64 // index of committed[0]
	applied []fact
	// kv is the logical state at the newest index, sum its checksum.
	kv        map[string]string
	keys      []string
	sum       uint64
	leaders   map[uint64]int       // term to node
	logged    map[[2]uint64]uint64 // (index, term) to the data's hash
	repos     map[string]*repoTruth
	lanes     map[laneKey]*laneTruth
	consumers map[repository.GroupID]repository.GroupConfig
	timeMs    int64
	conf      replica.Conf // the newest one
	confAt    uint64
	confs     []replica.Conf // all of them
	// held was durable on a majority once, and so was all up to heldTo.
	held   map[[2]uint64]bool
	heldTo uint64
}

// fact is an applied entry, and the state's checksum after it.
type fact struct {
	term, data, effects, sum uint64
}

type repoTruth struct {
	head  repository.Seq
	bySeq map[repository.Seq]*sent
	atMs  map[repository.Seq]int64 // when it was accepted
	byID  map[string]idTruth
	prods map[string]*prodTruth
}

type idTruth struct {
	seq  repository.Seq
	atMs int64
}

type prodTruth struct {
	epoch, last uint64
	seqs        map[uint64]repository.Seq // of the epoch
	newest      repository.Seq            // that was given to it, in any epoch
}

func newOracle(w *world) *oracle {
	o := &oracle{w: w, groups: map[storage.GroupID]*truth{}, entries: map[uint64]*entry{}, view: &meta.View{}, retired: map[storage.ReplicaID]bool{}}
	for g := 0; g <= w.set.Groups; g++ {
		t := &truth{
			first: 6, kv: map[string]string{}, leaders: map[uint64]int{}, logged: map[[2]uint64]uint64{}, held: map[[2]uint64]bool{},
			repos: map[string]*repoTruth{},
			lanes: map[laneKey]*laneTruth{}, consumers: map[repository.GroupID]repository.GroupConfig{},
		}
		for _, name := range w.repos(g) {
			t.repos[name] = &repoTruth{bySeq: map[repository.Seq]*sent{}, atMs: map[repository.Seq]int64{}, byID: map[string]idTruth{}, prods: map[string]*prodTruth{}}
		}
		// Node 1 made the group; the first replicas are given in the order of groups.
		t.conf = replica.SoleVoter(meta.FirstReplica + storage.ReplicaID(g))
		t.confs = []replica.Conf{t.conf}
		o.groups[storage.GroupID(g)] = t
	}
	return o
}

func hashOf(parts ...[]byte) uint64 {
	h := uint64(14695981039346656037)
	for _, p := range parts {
		for _, c := range p {
			h = (h ^ uint64(c)) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211
	}
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}

// proposed remembers what an entry carries.
func (o *oracle) proposed(data []byte, e *entry) { o.entries[hashOf(data)] = e }

// leads checks that a term has one leader.
func (o *oracle) leads(g *group, term uint64) {
	t := o.groups[g.id]
	if other, ok := t.leaders[term]; ok && other != g.life.id {
		o.w.violate("group %d has two leaders in term %d: nodes %d and %d", g.id, term, other, g.life.id)
	}
	t.leaders[term] = g.life.id
}

// local says that a key is a replica's own and no part of the logical state.
func local(key []byte) bool {
	const manifest, spill, meta = 0x0f, 0x10, 0x01
	return key[2] == manifest || key[2] == spill || key[2] == meta && len(key) == 4 && key[3] == 'x'
}

// applied checks an applied entry: the same everywhere, with the same effects; and
// the first time, that the results keep the promises.
func (o *oracle) applied(g *group, e storage.Entry, eff *repository.Effects, m *repository.Machine) {
	t, w := o.groups[g.id], o.w
	f := fact{term: e.Term, data: hashOf(e.Data)}
	eff.Each(func(kind repository.OpKind, key, value []byte) {
		if !local(key) {
			f.effects = f.effects*31 + hashOf([]byte{byte(kind)}, key, value)
		}
	})
	w.note("%d.%d applied %d %x", g.life.id, g.id, e.Index, f.effects)
	if o.again(g, e.Index, f) {
		return
	}
	o.whole(g, m)
	t.overlay(eff)
	f.sum = t.sum
	t.applied = append(t.applied, f)
	t.timeMs = m.LogTime()
	if replica.IsConfChange(&e) {
		o.changed(g.id, e)
		return
	}
	if len(e.Data) == 0 {
		return
	}
	x := o.entries[f.data]
	if x == nil {
		w.violate("entry %d of group %d was never proposed", e.Index, g.id)
	}
	if void := x.term != e.Term; void || eff.Results.Void {
		if !void || !eff.Results.Void {
			w.violate("entry %d of group %d: proposed in term %d, committed in term %d, void is %v", e.Index, g.id, x.term, e.Term, eff.Results.Void)
		}
		return
	}
	if len(eff.Results.Publish) != len(x.packets) {
		w.violate("entry %d of group %d: %d results for %d packets", e.Index, g.id, len(eff.Results.Publish), len(x.packets))
	}
	for i := range x.settles {
		t.settled(w, partitionOf(g.id), &x.settles[i].cmd, &eff.Results.Settles[i])
	}
	if w.set.TTLMs > 0 || w.set.RetentionMs > 0 {
		t.expired(w, partitionOf(g.id)) // by a command, or by a grant that found it
	}
	for i := range x.grants {
		t.granted(w, e.Index, &x.grants[i].cmd, &eff.Results.Grants[i])
	}
	// A group that begins at the end begins behind this entry's packets, too.
	t.makeGroups(w, m, x.groups, repository.StartEarliest, int(g.id))
	for i := range x.packets {
		t.published(w, x.packets[i].p, &eff.Results.Publish[i])
	}
	t.makeGroups(w, m, x.groups, repository.StartLatest, int(g.id))
}

// again compares an entry that was applied before, and says whether it was.
func (o *oracle) again(g *group, index uint64, f fact) bool {
	t, w := o.groups[g.id], o.w
	i := int(index - t.first)
	if index < t.first || i > len(t.applied) {
		w.violate("node %d applied entry %d of group %d, %d is next", g.life.id, index, g.id, t.first+uint64(len(t.applied)))
	}
	if i == len(t.applied) {
		return false
	}
	known := t.applied[i]
	switch {
	case known.term != f.term || known.data != f.data:
		w.violate("node %d applied another entry %d of group %d: term %d, another node's was of term %d", g.life.id, index, g.id, f.term, known.term)
	case known.effects != f.effects:
		w.violate("node %d came to another state at entry %d of group %d", g.life.id, index, g.id)
	}
	return true
}

// changed follows a group's configuration.
func (o *oracle) changed(g storage.GroupID, e storage.Entry) {
	t, w := o.groups[g], o.w
	cc, err := replica.ConfChange(&e)
	w.must(err)
	before := t.conf
	t.conf, _ = t.conf.Next(cc)
	t.confs, t.confAt = append(t.confs, t.conf), e.Index
	w.progress++
	w.note("group %d has %v", g, t.conf)
	for _, id := range slices.Concat(t.conf.Voters, t.conf.Learners) {
		if !before.Has(id) && (w.where[id].IsZero() || o.retired[id]) {
			w.violate("group %d gets replica %d, which is given up or was never given out", g, id)
		}
	}
}

// recent are the configurations of which some voter may not know that they are
// over.
func (t *truth) recent() []replica.Conf { return t.confs[max(0, len(t.confs)-3):] }

// overlay lays an entry's writes over the state.
func (t *truth) overlay(eff *repository.Effects) {
	drop := func(k string) {
		if v, ok := t.kv[k]; ok {
			t.sum ^= hashOf([]byte(k), []byte(v))
			delete(t.kv, k)
		}
	}
	eff.Each(func(kind repository.OpKind, key, value []byte) {
		if local(key) {
			return
		}
		k := string(key)
		switch kind {
		case repository.OpSet, repository.OpSetNew:
			drop(k)
			t.kv[k] = string(value)
			t.sum ^= hashOf(key, value)
		case repository.OpDelete:
			drop(k)
		case repository.OpDeleteRange:
			for k := range t.kv {
				if k >= string(key) && k < string(value) {
					drop(k)
				}
			}
		}
	})
}

// published checks what Apply decided of a packet: P2 and P3.
func (t *truth) published(w *world, p *sent, r *repository.PublishResult) {
	x := t.repos[p.repo]
	prod := x.prods[p.producer]
	if prod == nil {
		prod = &prodTruth{seqs: map[uint64]repository.Seq{}}
		x.prods[p.producer] = prod
	}
	known, had := x.byID[string(p.id)]
	had = had && len(p.id) > 0
	within := had && t.timeMs < known.atMs+int64(w.set.WindowMs)
	same := prod.epoch == p.epoch && p.position > 0
	w.note("%s: %+v", p, *r)
	switch r.Code {
	case repository.OK:
		switch {
		case r.Seq != x.head+1:
			w.violate("%s: number %d follows %d", p, r.Seq, x.head)
		case within:
			w.violate("%s: number %d, but its id has number %d", p, r.Seq, known.seq)
		case same && prod.seqs[p.position] != 0:
			w.violate("%s: number %d, but its position has number %d", p, r.Seq, prod.seqs[p.position])
		case p.position > 0 && r.Seq < prod.newest:
			w.violate("%s: number %d after number %d", p, r.Seq, prod.newest)
		}
		x.head = r.Seq
		x.bySeq[r.Seq], x.atMs[r.Seq] = p, t.timeMs
		if len(p.id) > 0 {
			x.byID[string(p.id)] = idTruth{r.Seq, t.timeMs}
		}
		prod.newest = r.Seq
		t.placed(w, prod, p, r.Seq)
	case repository.Duplicate:
		switch {
		case same && prod.seqs[p.position] != 0:
			if prod.seqs[p.position] != r.Seq {
				w.violate("%s: duplicate of %d, but its position has number %d", p, r.Seq, prod.seqs[p.position])
			}
		case had:
			if known.seq != r.Seq || r.ContentDiffers {
				w.violate("%s: duplicate of %d, but its id has number %d (content differs: %v)", p, r.Seq, known.seq, r.ContentDiffers)
			}
			t.placed(w, prod, p, r.Seq)
		default:
			w.violate("%s: duplicate of %d, but nothing like it was accepted", p, r.Seq)
		}
	case repository.Gap:
		if same && r.Expected != prod.last+1 || !same && (p.epoch < prod.epoch || r.Expected != 1) {
			w.violate("%s: gap, expected %d, but position %d of epoch %d was the last", p, r.Expected, prod.last, prod.epoch)
		}
	case repository.UnknownProducer:
		if prod.last > 0 {
			w.violate("%s: unknown producer, but position %d of epoch %d was accepted", p, prod.last, prod.epoch)
		}
	case repository.Fenced:
		if p.epoch >= prod.epoch {
			w.violate("%s: fenced, but the newest epoch is %d", p, prod.epoch)
		}
	case repository.TooOld:
		if !same || p.position > prod.last {
			w.violate("%s: too old, but position %d of epoch %d was the last", p, prod.last, prod.epoch)
		}
	}
}

// placed notes that the position got the number: the next one, always.
func (t *truth) placed(w *world, prod *prodTruth, p *sent, seq repository.Seq) {
	if p.position == 0 {
		return
	}
	if p.epoch > prod.epoch {
		prod.epoch, prod.last, prod.seqs = p.epoch, 0, map[uint64]repository.Seq{}
	}
	if p.epoch < prod.epoch || p.position != prod.last+1 {
		w.violate("%s: accepted behind position %d of epoch %d", p, prod.last, prod.epoch)
	}
	prod.last = p.position
	prod.seqs[p.position] = seq
}

// acked checks a receipt that reached its producer.
func (o *oracle) acked(p *sent, r *repository.PublishResult) {
	x := o.groups[p.group].repos[p.repo]
	first := x.bySeq[r.Seq]
	switch {
	case first == nil:
		o.w.violate("%s: acknowledged as %d, which was never committed", p, r.Seq)
	case p.acked != 0 && p.acked != r.Seq && len(p.id) == 0:
		o.w.violate("%s: acknowledged as %d, and before as %d", p, r.Seq, p.acked)
	case !bytes.Equal(first.content, p.content):
		o.w.violate("%s: acknowledged as %d, which is %s", p, r.Seq, first)
	}
	p.acked = r.Seq
	o.w.progress++
}

// durable checks, when a packet is to be acknowledged, that a majority has its
// entry synced: of the voters under one of the last configurations, because one
// takes effect when it is applied.
func (o *oracle) durable(g *group, index, term uint64) {
	t := o.groups[g.id]
	if o.onMajority(g.id, index, term) || index <= t.heldTo || t.held[[2]uint64{index, term}] {
		return
	}
	o.w.violate("entry %d of group %d is acknowledged, and not synced on a majority of %v", index, g.id, t.conf)
}

func (o *oracle) onMajority(g storage.GroupID, index, term uint64) bool {
	for _, c := range o.groups[g].recent() {
		if o.majority(g, c.Voters, index, term) && o.majority(g, c.Outgoing, index, term) {
			return true
		}
	}
	return false
}

func (o *oracle) majority(g storage.GroupID, voters []storage.ReplicaID, index, term uint64) bool {
	have := 0
	for _, id := range voters {
		i := o.w.machineWith(id)
		if i == 0 {
			continue
		}
		if m := o.w.nodes[i].disk[g]; m != nil && m.id == id && m.synced.has(index, term) {
			have++
		}
	}
	return have > len(voters)/2 || len(voters) == 0
}

// reset follows a log that is put aside for a snapshot.
func (o *oracle) reset(g *group, to storage.Position, hs storage.HardState, entries []storage.Entry) {
	m := g.life.disk[g.id]
	m.hard = hs
	m.written = terms{truncated: to.Index}
	for _, e := range entries {
		m.written.list = append(m.written.list, e.Term)
	}
}

// wrote follows what a node's log has.
func (o *oracle) wrote(n *node, it *logItem) {
	g := it.group.id
	m := n.disk[g]
	if it.job == nil {
		m.written.cutTo(it.truncate.Index)
		return
	}
	if it.job.HardState != nil {
		m.hard = *it.job.HardState
	}
	for _, e := range it.job.Entries {
		at := e.Index - m.written.truncated - 1
		if at > uint64(len(m.written.list)) {
			o.w.violate("node %d wrote entry %d of group %d behind %d", n.id, e.Index, g, m.written.truncated+uint64(len(m.written.list)))
		}
		m.written.list = append(append([]uint64(nil), m.written.list[:at]...), e.Term)
		key, data := [2]uint64{e.Index, e.Term}, hashOf(e.Data)
		if known, ok := o.groups[g].logged[key]; ok && known != data {
			o.w.violate("node %d wrote another entry %d of term %d into group %d than another node", n.id, e.Index, e.Term, g)
		}
		o.groups[g].logged[key] = data
	}
}

func (t *terms) cutTo(index uint64) {
	if index <= t.truncated {
		return
	}
	n := min(index-t.truncated, uint64(len(t.list)))
	t.truncated, t.list = index, append([]uint64(nil), t.list[n:]...)
}

// started checks what a node found on its disk.
func (o *oracle) started(n *node, g *group) {
	l, t := g.life, o.groups[g.id]
	first, last := l.logs.Bounds(g.id)
	m := &mirror{id: g.replica, written: terms{truncated: first - 1}}
	before := l.logs.Truncated(g.id).Term
	for i := first; i <= last; i++ {
		ents, err := l.logs.Entries(g.id, i, i+1, 0)
		o.w.must(err)
		e := &ents[0]
		if e.Term < before {
			o.w.violate("node %d: entry %d of group %d has term %d behind term %d", n.id, i, g.id, e.Term, before)
		}
		if t.logged[[2]uint64{i, e.Term}] != hashOf(e.Data) {
			o.w.violate("node %d: entry %d of group %d is not what was written", n.id, i, g.id)
		}
		before = e.Term
		m.written.list = append(m.written.list, e.Term)
	}
	m.synced = m.written
	var err error
	m.hard, err = l.logs.HardState(g.id)
	o.w.must(err)
	m.promised = m.hard
	if was := n.disk[g.id]; was != nil && was.id == g.replica {
		o.kept(n, g, was, m)
	}
	n.disk[g.id] = m
	o.verify(g)
}

// kept checks that a replica which starts has not forgotten what it promised: its
// vote, and the entries that it said to have.
func (o *oracle) kept(n *node, g *group, was, is *mirror) {
	a, b := was.promised, is.hard
	if b.Term < a.Term || b.Term == a.Term && a.Vote != 0 && b.Vote != a.Vote {
		o.w.violate("node %d: the replica of group %d had voted for %d in term %d, and now knows of %d in term %d", n.id, g.id, a.Vote, a.Term, b.Vote, b.Term)
	}
	x, y := was.synced, is.written
	if len(x.list) == 0 {
		return
	}
	last := x.truncated + uint64(len(x.list))
	term := x.list[len(x.list)-1]
	overwritten := len(y.list) > 0 && y.list[len(y.list)-1] > term || b.Term > term && y.overwrote(x)
	if !overwritten && !y.has(last, term) {
		o.w.violate("node %d: the replica of group %d had entry %d of term %d, and has it no more", n.id, g.id, last, term)
	}
}

// sum is the checksum of a replica's logical state.
func (o *oracle) sumOf(g *group) (sum uint64) {
	lower, upper := g.sm.keyRange()
	o.w.must(g.life.states.Scan(lower, upper, func(k, v []byte) bool {
		if g.part == nil || !local(k) {
			sum ^= hashOf(k, v)
		}
		return true
	}))
	return sum
}

// verify compares a replica's state with what was committed.
func (o *oracle) verify(g *group) {
	t := o.groups[g.id]
	at, _, err := g.sm.found()
	o.w.must(err)
	if at < t.first {
		return
	}
	sum := o.sumOf(g)
	if at-t.first >= uint64(len(t.applied)) {
		o.w.violate("node %d: group %d is applied to %d, which was never committed", g.life.id, g.id, at)
	}
	if want := t.applied[at-t.first].sum; sum != want {
		o.w.violate("node %d: the state of group %d at %d differs%s", g.life.id, g.id, at, o.difference(g))
	}
}

// difference names the first keys that differ from the newest state.
func (o *oracle) difference(g *group) (text string) {
	t := o.groups[g.id]
	if g.part == nil || g.part.machine.Applied() != t.first+uint64(len(t.applied))-1 {
		return ""
	}
	t.keys = t.keys[:0]
	for k := range t.kv {
		t.keys = append(t.keys, k)
	}
	sort.Strings(t.keys)
	for _, k := range t.keys {
		v, err := g.life.states.Get([]byte(k))
		if err != nil || string(v) != t.kv[k] {
			return ", at key " + hexOf(k)
		}
	}
	return ", it has more"
}

func hexOf(s string) string {
	const digits = "0123456789abcdef"
	var b []byte
	for i := range len(s) {
		b = append(b, digits[s[i]>>4], digits[s[i]&15])
	}
	return string(b)
}

// read checks a payload: it is what was sent under that number (P1).
func (o *oracle) read(g *group, n uint64) bool {
	names := o.w.repos(int(g.id))
	repo := names[n%uint64(len(names))]
	items, err := g.part.machine.Packets([]byte(repo), repository.Seq(n>>8%40), 5, nil)
	o.w.must(err)
	if len(items) == 0 {
		return false
	}
	it := items[(n>>16)%uint64(len(items))]
	o.payload(g, repo, it.Seq, it.Ref)
	return true
}
