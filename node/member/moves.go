package member

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/mover"
	"github.com/waystation/waystation/storage"
)

// moveEvery is how often the groups that this node leads are compared with the
// map.
const moveEvery = 200 * time.Millisecond

// stillEvery is the same for a group that was as the map wants it, as long as
// map and term are the same: the mover forgets who lives if it sees nobody for
// longer.
const stillEvery = time.Second

// moves are the movers of the groups that this node leads, or has led.
type moves struct {
	begin time.Time

	mu sync.Mutex
	of map[storage.GroupID]*groupMoves
}

// groupMoves is one group's. The mover is the loop's alone.
type groupMoves struct {
	mover *mover.Mover
	// What the last look saw, when, and whether there was nothing to do: the
	// loop's alone.
	view  *meta.View
	term  uint64
	at    time.Duration
	still bool

	ended []ended  // guarded by moves.mu: what the mover was not told yet
	text  []string // guarded by moves.mu: what it does, or waits for
}

// ended is what became of a step.
type ended struct {
	term    uint64
	outcome mover.Outcome
}

func (x *moves) group(g storage.GroupID) *groupMoves {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.of == nil {
		x.of, x.begin = map[storage.GroupID]*groupMoves{}, time.Now()
	}
	if x.of[g] == nil {
		x.of[g] = &groupMoves{mover: mover.New(mover.DefaultConfig())}
	}
	return x.of[g]
}

// move has each group that this node leads take its next step.
func (m *Member) move() {
	p := m.parts.Load()
	tick := time.NewTicker(moveEvery)
	defer tick.Stop()
	for {
		v := p.Meta.View()
		for _, g := range p.Engine.Groups() {
			if st := p.Engine.Status(g); st.Opened {
				m.step(p, v, &st)
			}
		}
		select {
		case <-tick.C:
		case <-m.ctx.Done():
			return
		}
	}
}

func (m *Member) step(p *Parts, v *meta.View, st *cluster.Status) {
	x := m.moves.group(st.Group)
	now, avoid := time.Since(m.moves.begin), m.avoid(p)
	if x.still && x.view == v && x.term == st.Term && avoid == nil && now-x.at < stillEvery {
		return
	}
	m.moves.mu.Lock()
	for _, e := range x.ended {
		x.mover.Done(e.term, e.outcome)
	}
	x.ended = nil
	m.moves.mu.Unlock()
	in := mover.Input{
		Group: st.Group, View: v, Self: st.Replica, Term: st.Term, Conf: st.Conf, Commit: st.Commit,
		Progress: st.Progress, Avoid: avoid, Now: now,
	}
	s := x.mover.Plan(in)
	x.view, x.term, x.at, x.still = v, st.Term, now, s.Kind == mover.None
	m.moves.mu.Lock()
	defer m.moves.mu.Unlock()
	x.text = x.text[:0]
	if s.Text != "" {
		x.text = append(x.text, s.Text)
	}
	x.text = append(x.text, s.Waits...)
	if s.Kind == mover.None || s.Kind == mover.Wait {
		return
	}
	term := st.Term
	done := func(err error) {
		if err != nil && m.ctx.Err() == nil && !errors.Is(err, meta.ErrStale) {
			m.log.Debug("step not made", "step", s.Text, "err", err)
		}
		m.moves.mu.Lock()
		x.ended = append(x.ended, ended{term, outcomeOf(s.Kind, err)})
		m.moves.mu.Unlock()
	}
	m.log.Debug("next step", "step", s.Text)
	m.tasks.Go(func() { m.carryOut(p, st.Group, term, s, done) })
}

// outcomeOf says what an error means of a step. Only of a change does it matter
// whether it may still be made.
func outcomeOf(k mover.Kind, err error) mover.Outcome {
	switch {
	case err == nil:
		return mover.Made
	case k != mover.Change:
		return mover.NotMade
	}
	for _, no := range []error{cluster.ErrNotLeader, cluster.ErrDropped, cluster.ErrConf, cluster.ErrNoGroup, cluster.ErrStopped} {
		if errors.Is(err, no) {
			return mover.NotMade
		}
	}
	return mover.Unknown
}

func (m *Member) carryOut(p *Parts, g storage.GroupID, term uint64, s mover.Step, done func(error)) {
	switch s.Kind {
	case mover.Report:
		done(m.call(func(ctx context.Context) error { return p.Calls.ReportGroup(ctx, *s.Report) }))
	case mover.Change:
		m.log.Info("replicas change", "step", s.Text)
		p.Engine.ProposeConf(g, term, s.Change, done)
	case mover.Transfer:
		m.log.Info("leadership moves", "step", s.Text)
		done(p.Engine.TransferLeader(g, s.To))
	}
}

// avoid is this node, if it should lead nothing.
func (m *Member) avoid(p *Parts) []identity.NodeID {
	if p.Resign != nil && p.Resign() {
		return []identity.NodeID{m.cfg.Identity.Node}
	}
	return nil
}

// moving says what this node, as the leader of g, is about to change.
func (m *Member) moving(g storage.GroupID) string {
	m.moves.mu.Lock()
	defer m.moves.mu.Unlock()
	if x := m.moves.of[g]; x != nil {
		return strings.Join(x.text, "; ")
	}
	return ""
}
