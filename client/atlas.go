package client

import (
	"maps"

	"github.com/waystation/waystation/messages/partition"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// atlas is who leads what, put together from what nodes said. It does not change.
type atlas struct {
	cluster string
	seed    uint64
	leaders []leader          // by partition
	addrs   map[string]string // of nodes, as they are advertised, where that is an address
}

// leader is a partition's, "" while none is known.
type leader struct {
	node string
	term uint64
}

// maxPartitions is the most that a cluster may have.
const maxPartitions = 1 << 16

// valid says whether a node's word makes sense.
func valid(r *waystationv1.Routes) bool {
	for _, p := range r.GetPartitions() {
		if int(p.GetLeader()) > len(r.GetNodes()) {
			return false
		}
	}
	n := len(r.GetPartitions())
	return r.GetClusterId() != "" && r.GetNodeId() != "" && n > 0 && n <= maxPartitions
}

// merge returns a with a node's word in it. Of a partition's leaders that of the
// higher term counts: a node that slept says what was true when it fell asleep.
// It returns a itself where nothing is new.
func (a *atlas) merge(r *waystationv1.Routes) *atlas {
	next := &atlas{cluster: r.GetClusterId(), seed: r.GetHashSeed(), addrs: make(map[string]string)}
	for _, n := range r.GetNodes() {
		if reachable(n.GetGrpc()) && len(next.addrs) < maxTargets {
			next.addrs[n.GetId()] = n.GetGrpc()
		}
	}
	next.leaders = make([]leader, len(r.GetPartitions()))
	fresh := a == nil || a.cluster != next.cluster || a.seed != next.seed || len(a.leaders) != len(next.leaders)
	if !fresh {
		copy(next.leaders, a.leaders)
	}
	changed := fresh || !maps.Equal(a.addrs, next.addrs)
	for i, p := range r.GetPartitions() {
		l := &next.leaders[i]
		if p.GetLeader() == 0 || l.node != "" && p.GetTerm() <= l.term {
			continue
		}
		*l = leader{node: r.GetNodes()[p.GetLeader()-1].GetId(), term: p.GetTerm()}
		changed = true
	}
	if !changed {
		return a
	}
	return next
}

// partition is where a lane's repository lies. The hash is kept in the lane.
func (a *atlas) partition(l *lane) int {
	if !l.hashed || l.seed != a.seed {
		l.hash, l.seed, l.hashed = partition.HashString(a.seed, l.repo), a.seed, true
	}
	return partition.At(l.hash, len(a.leaders))
}

// chart takes a node's word in. A node at an address that the caller gave is
// believed about which cluster this is; one that was only heard of is not. It says
// whether the node belongs to the cluster.
func (c *Client) chart(r *waystationv1.Routes, given bool) bool {
	c.charting.Lock()
	old := c.atlas.Load()
	if old != nil && old.cluster != r.GetClusterId() && !given {
		c.charting.Unlock()
		return false
	}
	next := old.merge(r)
	c.atlas.Store(next)
	c.charting.Unlock()
	if next == old {
		return true
	}
	for _, addr := range next.addrs {
		for _, l := range c.links {
			l.learn(addr)
		}
	}
	for _, p := range c.shards {
		p.remap()
	}
	return true
}
