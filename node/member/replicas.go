package member

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/transport"
	"github.com/waystation/waystation/internal/cadence"
	"github.com/waystation/waystation/storage"
)

// keepReplicas runs what the map gives to this node, and deletes what it takes
// away: on meta's word only.
func (m *Member) keepReplicas() {
	tick := time.NewTimer(cadence.Until(time.Now(), lookAgain))
	defer tick.Stop()
	for {
		m.compare()
		tick.Reset(cadence.Until(time.Now(), lookAgain))
		select {
		case <-m.bell:
		case <-tick.C:
		case <-m.ctx.Done():
			return
		}
	}
}

func (m *Member) compare() {
	p := m.parts.Load()
	v := p.Meta.View()
	if !v.Made() {
		return
	}
	for _, n := range v.Nodes {
		switch {
		case n.ID == m.cfg.Identity.Node:
		case n.State == meta.NodeRemoved:
			m.transport.Forget(n.ID)
		default:
			m.transport.Connect(n.ID)
		}
	}
	m.removed(p, v)
	m.incompatible(v)
	// What goes first makes room for what comes in its place.
	for _, r := range v.ReplicasOn(m.cfg.Identity.Node) {
		if !r.State.Runs() {
			m.unwanted(p, v, r)
		}
	}
	for _, r := range v.ReplicasOn(m.cfg.Identity.Node) {
		if r.State.Runs() {
			m.wanted(p, r)
		}
	}
}

// removed ends a node that is a member no longer, once the map's replicas on it
// are gone; and one that the others refuse for that reason.
func (m *Member) removed(p *Parts, v *meta.View) {
	self, _ := v.Node(m.cfg.Identity.Node)
	m.replaced(self)
	if self.State == meta.NodeRemoved && len(p.Engine.Groups()) <= 1 {
		m.cfg.Fatal(errRemoved)
		return
	}
	for _, s := range m.transport.Peers() {
		if errors.Is(s.Err, transport.ErrRemoved) {
			m.cfg.Fatal(fmt.Errorf("%w: %w", errRemoved, s.Err))
			return
		}
	}
}

// incompatible ends a start that none of the others takes part in, because their
// build is another one than this node's. Once it was recorded, or as long as one of
// them may be of its own build, time may change that.
func (m *Member) incompatible(v *meta.View) {
	if m.announced.Load() {
		return
	}
	why := map[identity.NodeID]error{}
	for _, s := range m.transport.Peers() {
		if errors.Is(s.Err, transport.ErrIncompatible) {
			why[s.Node] = s.Err
		}
	}
	var all []error
	for _, n := range v.NodesIn(meta.NodeJoining, meta.NodeActive, meta.NodeDraining) {
		if n.ID == m.cfg.Identity.Node {
			continue
		}
		if why[n.ID] == nil {
			return
		}
		all = append(all, why[n.ID])
	}
	if len(all) > 0 {
		m.cfg.Fatal(fmt.Errorf("%w: %w", ErrRefused, errors.Join(all...)))
	}
}

var errRemoved = errors.New("this node was removed from its cluster; to join again it needs an empty --data-dir")

// wanted adds a replica that does not run, and reports one that cannot.
func (m *Member) wanted(p *Parts, r meta.Replica) {
	st := p.Engine.Status(r.Group)
	switch {
	case errors.Is(st.Err, cluster.ErrNoGroup):
		if err := m.add(p, r.Group, r.ID); err != nil && m.ctx.Err() == nil {
			m.log.Error("replica does not start", "group", r.Group, "replica", r.ID, "err", err)
		}
	case st.Replica == r.ID && errors.Is(st.Err, cluster.ErrQuarantined):
		m.replace(p, r, st.Err)
	}
}

// add begins a replica. The founder's first ones make their groups; all others
// are brought up by their leaders.
func (m *Member) add(p *Parts, g storage.GroupID, id storage.ReplicaID) error {
	b := m.Belonging()
	if b.Founder && id <= meta.FirstReplica+storage.ReplicaID(b.Partitions) {
		return p.Engine.AddGroup(g, id, p.Machine(g))
	}
	return p.Engine.JoinGroup(g, id, p.Machine(g))
}

// replace asks meta for a successor of a replica that is damaged. That of meta
// itself takes its place at once: this node will see no map before.
func (m *Member) replace(p *Parts, r meta.Replica, why error) {
	err := m.call(func(ctx context.Context) error {
		next, err := p.Calls.ReplaceReplica(ctx, r.Group, r.ID, why.Error())
		if err == nil && r.Group == meta.MetaGroup && next > r.ID {
			err = m.succeedMeta(p, next)
		}
		return err
	})
	switch {
	case errors.Is(err, meta.ErrLastCopies):
		m.log.Error("replica is damaged and cannot be replaced: its group has no majority of copies without it. Bring the nodes back that have others; "+
			"or stop this node and look what `recover --data-dir DIR` can save, or `restore` a backup",
			"group", r.Group, "partition", int64(r.Group)-1, "replica", r.ID, "why", why)
	case err != nil:
		m.log.Error("quarantined replica is not replaced", "group", r.Group, "replica", r.ID, "why", why, "err", err)
	}
}

// unwanted deletes a replica, and tells meta that it did.
func (m *Member) unwanted(p *Parts, v *meta.View, r meta.Replica) {
	if err := m.erase(p, v, r); err != nil {
		if m.ctx.Err() == nil {
			m.log.Error("replica is not deleted", "group", r.Group, "replica", r.ID, "err", err)
		}
		return
	}
	if r.State == meta.ReplicaErased {
		return // said already
	}
	err := m.call(func(ctx context.Context) error { return p.Calls.ReplicaGone(ctx, r.Group, r.ID) })
	if err != nil && m.ctx.Err() == nil {
		m.log.Warn("meta was not told of a deleted replica", "group", r.Group, "replica", r.ID, "err", err)
	}
}

func (m *Member) erase(p *Parts, v *meta.View, r meta.Replica) error {
	if p.Engine.Status(r.Group).Replica != r.ID {
		live, err := m.recorded(r)
		if err != nil || !live {
			return err
		}
		// It was not begun in this life of the node: begin it, to end it well.
		if err := m.add(p, r.Group, r.ID); err != nil && !errors.Is(err, cluster.ErrQuarantined) {
			return err
		}
	}
	if r.Group == meta.MetaGroup {
		return m.eraseMeta(p, v)
	}
	return p.Engine.RemoveGroup(r.Group)
}

// eraseMeta replaces this node's replica of meta in one go: with it goes what the
// node knows of the map.
func (m *Member) eraseMeta(p *Parts, v *meta.View) error {
	next, ok := v.ReplicaOn(meta.MetaGroup, m.cfg.Identity.Node)
	if !ok {
		return nil // removed from the cluster: the node ends, and keeps what it has
	}
	return m.succeedMeta(p, next)
}

// succeedMeta has replica next take the place of this node's replica of meta.
func (m *Member) succeedMeta(p *Parts, next storage.ReplicaID) error {
	b := *m.Belonging()
	b.Replica = next
	if err := save(m.cfg.Log, b); err != nil {
		return err
	}
	m.belonging.Store(&b)
	if err := p.Engine.RemoveGroup(meta.MetaGroup); err != nil {
		return err
	}
	return p.Engine.JoinGroup(meta.MetaGroup, next, p.Meta)
}

// recorded says whether the log still has a replica.
func (m *Member) recorded(r meta.Replica) (bool, error) {
	list, err := m.cfg.Log.Replicas()
	if err != nil {
		return false, fmt.Errorf("read replica records: %w", err)
	}
	for _, x := range list {
		if x.Group == r.Group && x.Replica == r.ID {
			return x.State == storage.ReplicaLive, nil
		}
	}
	return false, nil
}
