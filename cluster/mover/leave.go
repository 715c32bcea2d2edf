package mover

import (
	"fmt"
	"slices"

	"github.com/waystation/waystation/storage"
)

// Leave returns to whom the leadership is to go from a node that should lead
// nothing from now on, because it is about to stop or its clock is off: a
// Transfer, Wait while nobody can take over, or None where there is nobody who
// ever could. It does not wait for a step that is under way, nor for meta: a
// transfer changes no configuration. It is called instead of Plan, and Done is
// not called after it.
//
// Who takes over need not have lived for long, as in Plan: it is one that is
// heard of now, and the alternative is an election.
func (m *Mover) Leave(in Input) Step {
	m.look(&in)
	g := m.group(&in)
	able, others := g.heirs()
	switch {
	case !others:
		return Step{Kind: None}
	case len(able) == 0:
		g.wait("nobody can take over the leadership")
	case m.hasTried && in.Now-m.tried < m.cfg.Steady:
		g.wait("its leadership is to move, and has not yet")
	default:
		to := g.heir(able)
		m.tried, m.hasTried = in.Now, true
		return Step{Kind: Transfer, To: to, Text: fmt.Sprintf("%s: %s is to lead", g.name(), g.label(to)), Waits: g.waits}
	}
	return Step{Kind: Wait, Waits: g.waits}
}

// heirs are the voters that could lead at once; others says that there is one
// besides this replica that should lead, now or in a while.
func (g *group) heirs() (able []storage.ReplicaID, others bool) {
	for _, id := range g.in.Conf.Voters { // one that is on its way out would lead without a vote
		if id == g.in.Self || g.avoided(id) {
			continue
		}
		others = true
		if g.m.fresh(g.in, id) && g.caughtUp(id) {
			able = append(able, id)
		} else {
			g.waitFor(id)
		}
	}
	return able, others
}

// heir is the one that the map wants, or any: a node that leaves gives its groups
// to all others alike.
func (g *group) heir(able []storage.ReplicaID) storage.ReplicaID {
	if i := slices.IndexFunc(able, g.shouldLead); i >= 0 {
		return able[i]
	}
	return able[int(g.in.Group)%len(able)]
}
