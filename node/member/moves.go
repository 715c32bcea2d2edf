package member

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/mover"
	"github.com/waystation/waystation/internal/cadence"
	"github.com/waystation/waystation/storage"
)

// moveEvery is how often the groups that this node leads are compared with the
// map; leaveEvery the same for a node that is to lead nothing.
const (
	moveEvery  = 200 * time.Millisecond
	leaveEvery = 10 * time.Millisecond
)

// stillEvery is the same for a group that was as the map wants it, as long as
// map and term are the same: the mover forgets who lives if it sees nobody for
// longer.
const stillEvery = time.Second

// moves are the movers of the groups that this node leads, or has led.
type moves struct {
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
	avoid []identity.NodeID
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
		x.of = map[storage.GroupID]*groupMoves{}
	}
	if x.of[g] == nil {
		x.of[g] = &groupMoves{mover: mover.New(mover.DefaultConfig())}
	}
	return x.of[g]
}

// move has each group that this node leads take its next step. A node that is to
// lead nothing gives away what comes back to it, too: others may not know yet.
func (m *Member) move() {
	p := m.parts.Load()
	timer := time.NewTimer(moveEvery)
	defer timer.Stop()
	for {
		v, avoid, resigns := p.Meta.View(), m.avoid(p), p.Resign()
		for _, g := range p.Engine.Groups() {
			st := p.Engine.Status(g)
			if st.Opened {
				m.acked.look(g, st.Term, st.Commit, time.Since(m.begin))
			}
			switch {
			case !st.Opened:
			case resigns:
				m.leave(p, v, &st, avoid)
			default:
				m.step(p, v, &st, avoid)
			}
		}
		wait := leaveEvery
		if !resigns {
			wait = cadence.Until(time.Now(), moveEvery)
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-m.resigning:
		case <-m.ctx.Done():
			return
		}
	}
}

// Resigned has the leaderships given away now that Work.Resign says so. It does
// not block.
func (m *Member) Resigned() {
	select {
	case m.resigning <- struct{}{}:
	default:
	}
}

// Heirs says whether this node leads a group that another one could lead.
func (m *Member) Heirs() bool {
	p := m.parts.Load()
	v, avoid := p.Meta.View(), m.avoid(p)
	for _, g := range p.Engine.Groups() {
		st := p.Engine.Status(g)
		if !st.Leads {
			continue
		}
		for _, id := range st.Conf.Voters {
			if on, ok := v.NodeOf(g, id); ok && id != st.Replica && !slices.Contains(avoid, on) {
				return true
			}
		}
	}
	return false
}

// leave hands a group's leadership over.
func (m *Member) leave(p *Parts, v *meta.View, st *cluster.Status, avoid []identity.NodeID) {
	x := m.moves.group(st.Group)
	x.still = false
	s := x.mover.Leave(m.input(v, st, avoid))
	m.moves.mu.Lock()
	x.text = append(x.text[:0], s.Waits...)
	m.moves.mu.Unlock()
	if s.Kind == mover.Transfer {
		m.carryOut(p, st.Group, st.Term, s, func(err error) {
			if err != nil {
				m.log.Debug("leadership not handed over", "step", s.Text, "err", err)
			}
		})
	}
}

func (m *Member) input(v *meta.View, st *cluster.Status, avoid []identity.NodeID) mover.Input {
	return mover.Input{
		Group: st.Group, View: v, Self: st.Replica, Term: st.Term, Conf: st.Conf, Commit: st.Commit,
		Progress: st.Progress, Avoid: avoid, Now: time.Since(m.begin),
	}
}

func (m *Member) step(p *Parts, v *meta.View, st *cluster.Status, avoid []identity.NodeID) {
	x := m.moves.group(st.Group)
	now := time.Since(m.begin)
	if x.still && x.view == v && x.term == st.Term && slices.Equal(x.avoid, avoid) && now-x.at < stillEvery {
		return
	}
	m.moves.mu.Lock()
	for _, e := range x.ended {
		x.mover.Done(e.term, e.outcome)
	}
	x.ended = nil
	m.moves.mu.Unlock()
	s := x.mover.Plan(m.input(v, st, avoid))
	x.view, x.term, x.avoid, x.at, x.still = v, st.Term, avoid, now, s.Kind == mover.None
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
		m.log.Debug("replicas change", "step", s.Text)
		p.Engine.ProposeConf(g, term, s.Change, done)
	case mover.Transfer:
		m.log.Debug("leadership moves", "step", s.Text)
		done(p.Engine.TransferLeader(g, s.To))
	}
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
