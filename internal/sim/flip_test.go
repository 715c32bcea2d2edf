package sim

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/memstore"
)

// flip is a record of a partition's log or state on one node of which a bit flipped
// on the disk: every read of it is an error, and who meets it quarantines the
// replica. The cluster has one at a time.
type flip struct {
	node  int
	ident identity.NodeID
	group storage.GroupID
	store func(*node) *memstore.Store
	key   []byte
	met   bool
}

// damage is a read that met the flipped bit. It travels as a panic.
type damage struct{ error }

// flipBit flips a bit on a node's disk, if its group can do without the replica.
func (n *node) flipBit(g storage.GroupID, seed uint64) bool {
	w := n.w
	w.lookAtFlip()
	m := n.disk[g]
	if g == meta.MetaGroup || w.flip != nil || w.drains() ||
		!n.member || n.over || m == nil || !w.oracle.groups[g].conf.Votes(m.id) || n.damaged[g] || !n.spare(g) {
		return false
	}
	if x := w.group(n.id, int(g)); n.life != nil && (x == nil || x.install != nil || x.incoming != nil) {
		return false
	}
	f := &flip{node: n.id, ident: n.ident, group: g, store: func(n *node) *memstore.Store { return n.state }}
	lower, upper := repository.KeyRange(partitionOf(g))
	if seed%2 == 0 {
		const entries = 0x03
		f.store = func(n *node) *memstore.Store { return n.log }
		lower = binary.BigEndian.AppendUint32([]byte{entries}, uint32(g))
		upper = binary.BigEndian.AppendUint32([]byte{entries}, uint32(g+1))
	}
	keys := keysOf(w, f.store(n), lower, upper)
	if len(keys) == 0 {
		return false
	}
	f.key = keys[seed/2%uint64(len(keys))]
	f.store(n).Damage(f.key)
	n.damaged[g], w.flip = true, f
	w.note("a bit of %d.%d flips: %x", n.id, g, f.key)
	return true
}

func keysOf(w *world, s *memstore.Store, lower, upper []byte) (keys [][]byte) {
	it, err := s.Iter(lower, upper)
	w.must(err)
	for ok := it.First(); ok; ok = it.Next() {
		keys = append(keys, append([]byte(nil), it.Key()...))
	}
	w.must(it.Close())
	return keys
}

// lookAtFlip forgets a flip that was overwritten before anybody met it.
func (w *world) lookAtFlip() {
	if f := w.flip; f != nil && !f.met && !f.store(w.nodes[f.node]).Damaged(f.key) {
		w.flipGone()
	}
}

// flipGone says that the flipped record is no more.
func (w *world) flipGone() {
	n := w.nodes[w.flip.node]
	n.older = nil // it may be in there
	n.damaged[w.flip.group] = false
	w.flip = nil
}

// hits says whether err is the flipped bit, in a replica of that node's.
func (f *flip) hits(n *node, g storage.GroupID, err error) bool {
	return f != nil && errors.Is(err, storage.ErrCorrupt) && f.node == n.id && f.group == g
}

// met says whether a panic comes of the flipped bit: of a read here, or of one of
// raft's, which panics with the text alone.
func (w *world) met(v any) bool {
	switch v.(type) {
	case damage:
		return true
	case violation:
		return false
	}
	if w.flip == nil {
		return false
	}
	g := w.group(w.flip.node, int(w.flip.group))
	return g != nil && g.core != nil && errors.Is(g.core.Fault(), storage.ErrCorrupt)
}

// quarantine stops the replica with the flipped bit, as the engine does, for good.
func (w *world) quarantine() {
	f := w.flip
	n := w.nodes[f.node]
	if n.life == nil || n.ident != f.ident {
		w.violate("the bit of %d.%d that flipped was met, and the node does not run", f.node, f.group)
	}
	if g := n.life.group(f.group); g != nil {
		n.life.close(g)
	}
	n.life.giveUp(f.group, n.disk[f.group].id)
	f.met = true
	w.flips++
	for _, c := range w.clients {
		if c.group == f.group && c.stream.node == n.id {
			c.reconnect(1 + n.id%w.set.Nodes) // refused
		}
	}
}

// giveUp keeps a replica from running, over restarts too.
func (l *life) giveUp(g storage.GroupID, id storage.ReplicaID) {
	l.w.note("%d.%d is quarantined", l.id, g)
	l.w.oracle.forget(l.node, g)
	l.broken[g], l.given[g] = id, id
}

// whole panics if a record of the group's is damaged that the oracle will want to
// read: before it has noted anything.
func (o *oracle) whole(g *group, m *repository.Machine) {
	if f := o.w.flip; f == nil || f.node != g.life.id || f.group != g.id {
		return
	}
	for _, repo := range o.w.repos(int(g.id)) {
		_, err := m.Packets([]byte(repo), 0, 1<<20, nil)
		o.w.must(err)
	}
}

// forget keeps in mind what was durable on a majority, before a replica goes that
// counted: that it was is enough.
func (o *oracle) forget(n *node, g storage.GroupID) {
	m, t := n.disk[g], o.groups[g]
	if m == nil {
		return
	}
	t.heldTo = max(t.heldTo, m.synced.truncated)
	for i, term := range m.synced.list {
		index := m.synced.truncated + uint64(i) + 1
		if o.onMajority(g, index, term) {
			t.held[[2]uint64{index, term}] = true
		}
	}
}

var errMet = fmt.Errorf("a flipped bit was met: %w", storage.ErrCorrupt)
