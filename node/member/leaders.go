package member

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// followEvery is how often the leaders are looked at, should no change have told.
const followEvery = time.Second

// askEvery is how often the others are asked for leaders that this node does not
// hear of itself.
const askEvery = 300 * time.Millisecond

// leaders is who leads the partitions, as far as this node knows. Readers take
// what is there; the follower replaces it.
type leaders struct {
	mu      sync.Mutex
	of      []identity.NodeID // by partition; zero: unknown
	changed chan struct{}
}

// set says whether anything is new.
func (l *leaders) set(of []identity.NodeID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Equal(l.of, of) {
		return false
	}
	l.of = slices.Clone(of)
	if l.changed != nil {
		close(l.changed)
	}
	l.changed = make(chan struct{})
	return true
}

// Leader returns the node that leads a partition.
func (m *Member) Leader(partition uint16) (identity.NodeID, bool) {
	l := &m.leaders
	l.mu.Lock()
	defer l.mu.Unlock()
	if int(partition) >= len(l.of) || l.of[partition].IsZero() {
		return identity.NodeID{}, false
	}
	return l.of[partition], true
}

// LeadersChanged is closed when a partition has another leader than now.
func (m *Member) LeadersChanged() <-chan struct{} {
	l := &m.leaders
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

// follow keeps the table of leaders. Of groups without a replica here the others
// are asked.
func (m *Member) follow() {
	p := m.parts.Load()
	timer := time.NewTimer(followEvery)
	defer timer.Stop()
	var of []identity.NodeID
	told := map[storage.GroupID]identity.NodeID{}
	asked := time.Now()
	for {
		v, foreign := p.Meta.View(), false
		of = of[:0]
		for i := range v.Cluster.Partitions {
			g := meta.PartitionGroup(i)
			n, here := m.leaderOf(p, v, g)
			if !here {
				n, foreign = told[g], true
			}
			of = append(of, n)
		}
		m.leaders.set(of)
		if foreign && time.Since(asked) > askEvery {
			told = m.askLeaders(v)
			asked = time.Now()
		}
		wait := followEvery
		if foreign {
			wait = askEvery
		}
		timer.Reset(wait)
		select {
		case <-m.leads:
		case <-timer.C:
		case <-m.ctx.Done():
			return
		}
	}
}

// Changed has the leaders looked at: a group has another one. It does not block.
func (m *Member) Changed(storage.GroupID) {
	select {
	case m.leads <- struct{}{}:
	default:
	}
}

// leaderOf says who leads a group of which this node has a replica.
func (m *Member) leaderOf(p *Parts, v *meta.View, g storage.GroupID) (n identity.NodeID, here bool) {
	st := p.Engine.Status(g)
	if st.Err != nil || st.Conf.Empty() {
		return n, false
	}
	if st.Leader != 0 {
		n, _ = v.NodeOf(g, st.Leader)
	}
	return n, true
}

// askLeaders asks all nodes what they lead.
func (m *Member) askLeaders(v *meta.View) map[storage.GroupID]identity.NodeID {
	ctx, cancel := context.WithTimeout(m.ctx, askEvery)
	defer cancel()
	told, terms := map[storage.GroupID]identity.NodeID{}, map[storage.GroupID]uint64{}
	for _, r := range m.Reports(ctx) {
		for _, x := range r.GetGroups() {
			g := storage.GroupID(x.GetGroup())
			if n, ok := v.NodeOf(g, storage.ReplicaID(x.GetLeader())); ok && x.GetTerm() >= terms[g] {
				told[g], terms[g] = n, x.GetTerm()
			}
		}
	}
	return told
}
