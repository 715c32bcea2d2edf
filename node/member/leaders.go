package member

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/internal/cadence"
	"github.com/waystation/waystation/storage"
)

// followEvery is how often the leaders are looked at, should no change have told.
const followEvery = time.Second

// askEvery is how often the others are asked for leaders that this node does not
// hear of itself.
const askEvery = 300 * time.Millisecond

// leadership is a leader, zero if none is known, and the term in which it leads.
type leadership struct {
	node identity.NodeID
	term uint64
}

// leaders is who leads the partitions, as far as this node knows. Readers take
// what is there; the follower replaces it.
type leaders struct {
	mu      sync.Mutex
	of      []leadership // by partition
	changed chan struct{}
}

// set says whether anything is new.
func (l *leaders) set(of []leadership) bool {
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
	n, _, ok := m.LeaderIn(partition)
	return n, ok
}

// LeaderIn is Leader with the term in which the node leads.
func (m *Member) LeaderIn(partition uint16) (n identity.NodeID, term uint64, ok bool) {
	l := &m.leaders
	l.mu.Lock()
	defer l.mu.Unlock()
	if int(partition) >= len(l.of) || l.of[partition].node.IsZero() {
		return n, 0, false
	}
	return l.of[partition].node, l.of[partition].term, true
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
	var of []leadership
	told := map[storage.GroupID]leadership{}
	asked, news := time.Now(), &news{}
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
		m.tell(news, p, v)
		if foreign && time.Since(asked) > askEvery {
			told = m.askLeaders(v)
			asked = time.Now()
		}
		wait := cadence.Until(time.Now(), followEvery)
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
func (m *Member) leaderOf(p *Parts, v *meta.View, g storage.GroupID) (l leadership, here bool) {
	st := p.Engine.Status(g)
	if st.Err != nil || st.Conf.Empty() {
		return l, false
	}
	if st.Leader != 0 {
		l.node, _ = v.NodeOf(g, st.Leader)
		l.term = st.Term
	}
	return l, true
}

// askLeaders asks all nodes what they lead.
func (m *Member) askLeaders(v *meta.View) map[storage.GroupID]leadership {
	ctx, cancel := context.WithTimeout(m.ctx, askEvery)
	defer cancel()
	told := map[storage.GroupID]leadership{}
	for _, r := range m.Reports(ctx) {
		for _, x := range r.GetGroups() {
			g := storage.GroupID(x.GetGroup())
			if n, ok := v.NodeOf(g, storage.ReplicaID(x.GetLeader())); ok && x.GetTerm() >= told[g].term {
				told[g] = leadership{n, x.GetTerm()}
			}
		}
	}
	return told
}
