package member

import (
	"context"
	"errors"
	"time"

	"github.com/waystation/waystation/cluster/gossip"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/placement"
	"github.com/waystation/waystation/internal/cadence"
)

const (
	// drawEvery is how often the leader of meta looks at the map.
	drawEvery = 500 * time.Millisecond
	// downAfter is when a node that is not heard of should lead nothing.
	downAfter = 3 * time.Second
)

// draw draws the map, while this node leads meta.
func (m *Member) draw() {
	p := m.parts.Load()
	tick := time.NewTimer(cadence.Until(time.Now(), drawEvery))
	defer tick.Stop()
	silent := map[identity.NodeID]time.Time{}
	for {
		if term, _ := p.Meta.Leading(); term != 0 {
			m.drawOnce(p, silent)
		} else {
			clear(silent) // a new leader gives everybody the whole time
		}
		tick.Reset(cadence.Until(time.Now(), drawEvery))
		select {
		case <-tick.C:
		case <-m.ctx.Done():
			return
		}
	}
}

func (m *Member) drawOnce(p *Parts, silent map[identity.NodeID]time.Time) {
	v := p.Meta.View()
	in := placement.Input{View: v, Replication: m.cfg.Settings.Replication, MaxMoves: placement.DefaultMaxMoves}
	in.Lost, in.Unfit = m.missing(v, silent)
	r := placement.Next(in)
	for _, b := range r.Blocked {
		m.log.Debug("placement is blocked", "group", b.Group, "node", b.Node, "why", b.Text)
	}
	if len(r.Groups) == 0 {
		return
	}
	err := m.call(func(ctx context.Context) error {
		return p.Calls.SetMap(ctx, meta.SetMap{Generation: v.Cluster.Generation, Groups: r.Groups, Why: r.Why})
	})
	switch {
	case err == nil:
		m.log.Info("map drawn", "groups", len(r.Groups), "why", r.Why, "moving", r.Moving)
	case !errors.Is(err, meta.ErrStale) && m.ctx.Err() == nil:
		m.log.Warn("map not drawn", "err", err)
	}
}

// missing says which nodes have not been heard of for so long that they are
// replaced, and which should not lead.
func (m *Member) missing(v *meta.View, silent map[identity.NodeID]time.Time) (lost, unfit []identity.NodeID) {
	here := map[identity.NodeID]gossip.State{}
	for _, x := range m.gossip.Members() {
		here[x.Node] = x.State
	}
	heard := map[identity.NodeID]time.Duration{}
	for _, s := range m.transport.Peers() {
		if s.Heard >= 0 {
			heard[s.Node] = s.Heard
		}
	}
	now := time.Now()
	for _, n := range v.NodesIn(meta.NodeJoining, meta.NodeActive, meta.NodeDraining) {
		if n.ID == m.cfg.Identity.Node {
			continue
		}
		if d, ok := heard[n.ID]; ok && d < downAfter {
			delete(silent, n.ID)
			if s, ok := here[n.ID]; ok && s >= gossip.Draining {
				unfit = append(unfit, n.ID)
			}
			continue
		}
		since, ok := silent[n.ID]
		if !ok {
			since = now
			silent[n.ID] = since
		}
		if now.Sub(since) >= m.cfg.Settings.ReplaceAfter {
			lost = append(lost, n.ID)
		} else if now.Sub(since) >= downAfter {
			unfit = append(unfit, n.ID)
		}
	}
	return lost, unfit
}

// Clocks are the other voters' wall clocks, as far as they are known.
func (m *Member) Clocks() (count int, others []int64) {
	p := m.parts.Load()
	if p == nil {
		return 1, nil
	}
	v := p.Meta.View()
	for _, r := range v.Wish(meta.MetaGroup) {
		if r.Role != meta.Voter {
			continue
		}
		count++
		if r.Node == m.cfg.Identity.Node {
			continue
		}
		if wall, ok := m.transport.Clock(r.Node); ok {
			others = append(others, wall)
		}
	}
	return max(count, 1), others
}
