package placement

import (
	"slices"

	"github.com/waystation/waystation/cluster/meta"
)

// balance says who should lead each group: every node that may lead as many as
// the others, one more or less. Who leads already goes on where it can. A group
// that moves is counted and left as it is.
func (p *plan) balance(targets []target) {
	b := balancer{led: map[*node]int{}}
	for i := range targets {
		t := &targets[i]
		l := lane{target: t, fixed: t.moving && !t.change}
		for j, w := range t.wish {
			n := p.node(w.Node)
			fit := w.Role == meta.Voter && n.stands() && !n.unfit
			if w.Leader && (fit || l.fixed) && l.leader == nil {
				l.leader = n
			} else {
				t.wish[j].Leader = t.wish[j].Leader && l.fixed
			}
			if fit {
				l.able = append(l.able, n)
			}
		}
		if l.leader != nil {
			b.led[l.leader]++
		}
		b.lanes = append(b.lanes, l)
	}
	for i := range b.lanes {
		b.assign(&b.lanes[i])
	}
	for again := true; again; {
		again = false
		for _, n := range p.nodes {
			again = b.relieve(n) || again
		}
	}
	for _, l := range b.lanes {
		l.mark()
	}
}

// lane is one group with who leads it and who could.
type lane struct {
	target *target
	fixed  bool
	leader *node
	able   []*node
}

func (l *lane) mark() {
	for j, w := range l.target.wish {
		if !l.fixed {
			l.target.wish[j].Leader = l.leader != nil && w.Node == l.leader.ID
		}
	}
}

type balancer struct {
	lanes []lane
	led   map[*node]int
}

// assign finds a leader for a group that has none.
func (b *balancer) assign(l *lane) {
	if l.leader != nil || l.fixed || len(l.able) == 0 {
		return
	}
	l.leader = slices.MinFunc(l.able, func(x, y *node) int { return b.led[x] - b.led[y] })
	b.led[l.leader]++
}

// relieve hands one leadership on from a node to one that leads at least two
// fewer, over others in between if it must, and says whether it could.
func (b *balancer) relieve(from *node) bool {
	type step struct {
		via  *lane
		prev *node
	}
	seen := map[*node]step{from: {}}
	for queue := []*node{from}; len(queue) > 0; queue = queue[1:] {
		n := queue[0]
		if b.led[n] <= b.led[from]-2 {
			b.led[n]++
			b.led[from]--
			for n != from {
				s := seen[n]
				s.via.leader, n = n, s.prev
			}
			return true
		}
		for i := range b.lanes {
			l := &b.lanes[i]
			if l.leader != n || l.fixed {
				continue
			}
			for _, next := range l.able {
				if _, been := seen[next]; !been {
					seen[next] = step{l, n}
					queue = append(queue, next)
				}
			}
		}
	}
	return false
}
