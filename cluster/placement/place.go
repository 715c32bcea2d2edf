package placement

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// choice is a node that is to hold a replica.
type choice struct {
	node *node
	role meta.Role
}

// odd is the most voters that n nodes can be: 1, 3 or 5; 0 for none.
func odd(n int) int {
	if n < 1 {
		return 0
	}
	return min(n-1+n%2, meta.MaxVoters)
}

func voters(wish []meta.ReplicaWish) (n int) {
	for _, w := range wish {
		if w.Role == meta.Voter {
			n++
		}
	}
	return n
}

func currentVoters(current []meta.Replica) (n int) {
	for _, r := range current {
		if r.Role == meta.Voter {
			n++
		}
	}
	return n
}

// placePartition returns who should hold a partition.
func (p *plan) placePartition(g storage.GroupID, current []meta.Replica) []choice {
	if len(p.standing) == 0 {
		return p.asIs(g, current)
	}
	copies := min(p.replication, p.asked)
	want := odd(copies)
	picks := p.spread(g, copies)
	for _, n := range picks {
		n.load++
	}
	picks = p.fill(g, current, picks, copies, want)
	return p.roles(current, picks, want)
}

// placeMeta returns who should hold meta: every member, of whom some vote.
func (p *plan) placeMeta(current []meta.Replica) []choice {
	var out []choice
	if len(p.standing) == 0 {
		out = p.asIs(meta.MetaGroup, current)
	} else {
		copies := min(meta.MaxVoters, p.asked)
		want := odd(copies)
		picks := p.fill(meta.MetaGroup, current, slices.Clone(p.standing), copies, want)
		out = p.roles(current, picks, want)
	}
	for _, n := range p.nodes {
		if n.State != meta.NodeRemoved && !slices.ContainsFunc(out, func(c choice) bool { return c.node == n }) {
			out = append(out, choice{n, meta.Learner})
		}
	}
	return out
}

// asIs leaves a group where it is, because there is no node to move it to.
func (p *plan) asIs(g storage.GroupID, current []meta.Replica) []choice {
	out := make([]choice, len(current))
	for i, r := range current {
		out[i] = choice{p.node(r.Node), r.Role}
		p.block(g, out[i].node, "keeps its replica: no node stands that could take it")
	}
	return out
}

// spread returns the n nodes that rank first for a group, with its zones spread
// and without any that has its share, as far as there are others.
func (p *plan) spread(g storage.GroupID, n int) []*node {
	rank := make(map[*node]uint64, len(p.standing))
	for _, x := range p.standing {
		rank[x] = score(x, g)
	}
	left, zones := slices.Clone(p.standing), map[string]int{}
	var picks []*node
	for len(picks) < n && len(left) > 0 {
		best := slices.MinFunc(left, func(a, b *node) int {
			return cmp.Or(
				cmp.Compare(zones[a.Zone], zones[b.Zone]),
				cmp.Compare(p.overload(a), p.overload(b)),
				-cmp.Compare(rank[a], rank[b]),
			)
		})
		picks = append(picks, best)
		zones[best.Zone]++
		left = slices.DeleteFunc(left, func(x *node) bool { return x == best })
	}
	return picks
}

// overload is by how much a node would be over its share with one more.
func (p *plan) overload(n *node) int { return max(0, n.load+1-p.capacity) }

// score is a node's rank for a group: the highest comes first.
func score(n *node, g storage.GroupID) uint64 {
	var b [20]byte
	copy(b[:], n.ID[:])
	binary.BigEndian.PutUint32(b[16:], uint32(g))
	return xxhash.Sum64(b[:])
}

// fill adds those that hold the group now, where standing nodes are too few:
// lost ones up to the copies, and up to the voters also those that should go.
func (p *plan) fill(g storage.GroupID, current []meta.Replica, picks []*node, copies, want int) []*node {
	add := func(limit int, why string, is func(n *node, r meta.Replica) bool) {
		for _, voter := range []bool{true, false} {
			for _, r := range current {
				n := p.node(r.Node)
				if len(picks) >= limit || (r.Role == meta.Voter) != voter || slices.Contains(picks, n) || !is(n, r) {
					continue
				}
				picks = append(picks, n)
				p.block(g, n, why)
			}
		}
	}
	add(copies, "is lost, and no other could take its replica", func(n *node, _ meta.Replica) bool {
		return n.State == meta.NodeActive && n.lost
	})
	add(want, "drains, and no other could take its replica", func(n *node, _ meta.Replica) bool {
		return n.State == meta.NodeDraining
	})
	add(min(want, currentVoters(current)), "was removed, and no other could take its replica", func(n *node, r meta.Replica) bool {
		return n.State == meta.NodeRemoved && r.Role == meta.Voter
	})
	if len(picks) < copies {
		p.blocked = append(p.blocked, Reason{
			Group: g, Text: fmt.Sprintf("%s: no node stands that could take copy %d of %d", groupName(g), len(picks)+1, copies),
		})
	}
	return picks
}

// roles says who of the picks votes.
func (p *plan) roles(current []meta.Replica, picks []*node, want int) []choice {
	want = odd(min(max(want, 1), len(picks)))
	votes := func(n *node) bool {
		return slices.ContainsFunc(current, func(r meta.Replica) bool { return r.Node == n.ID && r.Role == meta.Voter })
	}
	slices.SortFunc(picks, byAge)
	left, zones := slices.Clone(picks), map[string]int{}
	chosen := map[*node]bool{}
	for len(chosen) < want {
		best := slices.MinFunc(left, func(a, b *node) int {
			if want == 1 {
				// The only voter has to be asked before it can be replaced. Of several
				// that vote, one is left that is there now.
				keeps := func(n *node) bool { return votes(n) && n.State == meta.NodeActive }
				several := currentVoters(current) > 1
				if c := cmp.Or(boolCompare(several && a.unfit, several && b.unfit), boolCompare(keeps(b), keeps(a))); c != 0 {
					return c
				}
			}
			return cmp.Or(
				boolCompare(!a.stands(), !b.stands()),
				cmp.Compare(zones[a.Zone], zones[b.Zone]),
				boolCompare(votes(b), votes(a)),
				byAge(a, b),
			)
		})
		chosen[best] = true
		zones[best.Zone]++
		left = slices.DeleteFunc(left, func(x *node) bool { return x == best })
	}
	out := make([]choice, len(picks))
	for i, n := range picks {
		out[i] = choice{n, meta.Learner}
		if chosen[n] {
			out[i].role = meta.Voter
		}
	}
	return out
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}
