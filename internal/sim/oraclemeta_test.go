package sim

import (
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// appliedMeta checks an entry of meta: the same everywhere, with the same state
// behind it; and the first time, what it makes of the map.
func (o *oracle) appliedMeta(g *group, e storage.Entry, v *meta.View) {
	t, w := o.groups[g.id], o.w
	f := fact{term: e.Term, data: hashOf(e.Data), sum: o.sumOf(g)}
	f.effects = f.sum
	w.note("%d.%d applied %d %x", g.life.id, g.id, e.Index, f.sum)
	if o.again(g, e.Index, f) {
		return
	}
	t.applied = append(t.applied, f)
	if replica.IsConfChange(&e) {
		o.changed(g.id, e)
		return
	}
	if _, ok := o.entries[f.data]; !ok && len(e.Data) > 0 {
		w.violate("entry %d of group %d was never proposed", e.Index, g.id)
	}
	if v != o.view {
		w.progress++
		o.drawn(v)
	}
}

// drawn checks a new map.
func (o *oracle) drawn(v *meta.View) {
	w, old := o.w, o.view
	o.view = v
	for _, r := range v.Replicas {
		if at, known := w.where[r.ID]; known && at != r.Node || r.ID >= v.Cluster.NextReplica {
			w.violate("replica %d of group %d is on %s, and was on %s", r.ID, r.Group, r.Node, at)
		}
		if o.retired[r.ID] && r.State != meta.ReplicaRetired {
			w.violate("replica %d of group %d is %s again", r.ID, r.Group, r.State)
		}
		w.where[r.ID] = r.Node
	}
	for _, r := range old.Replicas {
		if now, ok := v.Replica(r.Group, r.ID); ok && now.State != meta.ReplicaRetired || o.retired[r.ID] {
			continue
		}
		o.retired[r.ID] = true
		w.note("replica %d of group %d is given up", r.ID, r.Group)
		if o.groups[r.Group].conf.Has(r.ID) {
			w.violate("replica %d of group %d is given up, and a member of %v", r.ID, r.Group, o.groups[r.Group].conf)
		}
	}
	for _, p := range v.Placements {
		voters := 0
		for _, r := range v.Wish(p.Group) {
			if r.Role == meta.Voter {
				voters++
			}
		}
		if voters%2 == 0 || voters > meta.MaxVoters {
			w.violate("group %d is to have %d voters", p.Group, voters)
		}
	}
}
