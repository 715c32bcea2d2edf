package sim

import (
	"slices"

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

func newOracle(w *world) *oracle {
	o := &oracle{w: w, groups: map[storage.GroupID]*truth{}, entries: map[uint64]*entry{}, view: &meta.View{}, retired: map[storage.ReplicaID]bool{}}
	for g := 0; g <= w.set.Groups; g++ {
		t := &truth{
			first: 6, kv: map[string]string{}, leaders: map[uint64]int{}, logged: map[[2]uint64]uint64{}, held: map[[2]uint64]bool{},
			repos: map[string]*repoTruth{},
			lanes: map[laneKey]*laneTruth{}, consumers: map[repository.GroupID]repository.GroupConfig{},
		}
		for _, name := range w.repos(g) {
			t.repos[name] = &repoTruth{bySeq: map[repository.Seq]*sent{}, atMs: map[repository.Seq]int64{}, byID: map[string]idTruth{}, prods: map[string]*prodTruth{}, redriven: map[repository.Seq]bool{}}
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
	if w.set.TTLMs > 0 || w.set.RetentionMs > 0 || w.set.Policies > 0 {
		t.expired(w, partitionOf(g.id)) // by a command, or by a grant that found it
	}
	for i := range x.grants {
		t.granted(w, e.Index, &x.grants[i].cmd, &eff.Results.Grants[i])
	}
	o.ordered(t, x, eff.Results.Dead)
	// A group that begins at the end begins behind this entry's packets, too.
	t.makeGroups(w, m, x.groups, repository.StartEarliest, int(g.id))
	for i := range x.packets {
		t.published(w, x.packets[i].p, &eff.Results.Publish[i])
	}
	t.makeGroups(w, m, x.groups, repository.StartLatest, int(g.id))
}

// ordered checks an entry's orders about dead letters.
func (o *oracle) ordered(t *truth, x *entry, out []repository.DeadOutcome) {
	for i := range x.orders {
		if d := x.orders[i].dead; d != nil && len(out) > 0 {
			t.endedDead(o.w, d, &out[0])
			out = out[1:]
		} else if d != nil {
			o.w.violate("order %+v has no outcome", *d)
		}
	}
	if len(out) > 0 {
		o.w.violate("%d outcomes of no order about dead letters", len(out))
	}
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
