package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/mover"
	"github.com/waystation/waystation/cluster/placement"
	"github.com/waystation/waystation/cluster/replica"
)

// moves is the mover of a group on the node that leads it.
type moves struct {
	mover *mover.Mover
	ended []ended
}

// ended is what became of a step.
type ended struct {
	term    uint64
	outcome mover.Outcome
}

func (w *world) moverConfig() mover.Config {
	c := mover.DefaultConfig()
	c.Steady, c.Retry = 300*time.Millisecond, time.Second
	return c
}

// move makes the next step from a group's configuration towards what the map
// wants, if this replica leads.
func (g *group) move() bool {
	st, l := g.core.Status(), g.life
	if !st.Opened {
		return false
	}
	x := l.moves[g.id]
	if x == nil {
		x = &moves{mover: mover.New(g.w.moverConfig())}
		l.moves[g.id] = x
	}
	for _, e := range x.ended {
		x.mover.Done(e.term, e.outcome)
	}
	x.ended = nil
	s := x.mover.Plan(mover.Input{
		Group: g.id, View: l.store.View(), Self: g.replica, Term: st.Term, Conf: *st.Conf, Commit: st.Commit,
		Progress: g.core.Progress(), Now: g.w.now,
	})
	if s.Kind == mover.None || s.Kind == mover.Wait {
		if *traceFlag {
			fmt.Printf("%d: %d %v\n", g.w.steps, l.id, s.Waits)
		}
		return false
	}
	g.w.note("%d %s", l.id, s.Text)
	g.carryOut(x, st.Term, s)
	return true
}

func (g *group) carryOut(x *moves, term uint64, s mover.Step) {
	end := func(o mover.Outcome) { x.ended = append(x.ended, ended{term, o}) }
	switch s.Kind {
	case mover.Report:
		if !g.life.ask("report "+g.name(), s.Report, func(_ meta.Result, err error) {
			if err != nil {
				end(mover.NotMade)
				return
			}
			end(mover.Made)
		}) {
			end(mover.NotMade)
		}
	case mover.Change:
		w := &waiting{key: waitKey{term: term}, unknown: func() { end(mover.Unknown) }}
		w.decided = func(_, _ uint64, refused any) {
			if err, _ := refused.(error); errors.Is(err, replica.ErrConf) {
				end(mover.NotMade)
				return
			}
			end(mover.Made)
		}
		if err := g.proposeConf(w, s.Change); err != nil {
			end(mover.NotMade)
		}
	case mover.Transfer:
		g.wake()
		_ = g.core.TransferLeader(s.To)
		end(mover.Made)
	}
	g.drain()
}

// since is when a node was last missed.
type since struct{ at time.Duration }

// downAfter is when a node that is not heard of should lead nothing.
const downAfter = 3 * time.Second

// draw draws the map, if this node leads meta.
func (l *life) draw() bool {
	g := l.group(meta.MetaGroup)
	if g == nil || g.registrar == 0 {
		clear(l.silent) // a new leader gives everybody the whole time
		return false
	}
	v := l.store.View()
	in := placement.Input{View: v, Replication: l.w.set.Replication, MaxMoves: 2}
	in.Lost, in.Unfit = l.missing(v)
	r := placement.Next(in)
	if len(r.Groups) == 0 {
		return false
	}
	l.w.note("%d draws: %s", l.id, r.Why)
	return l.ask("map", &meta.SetMap{Generation: v.Cluster.Generation, Groups: r.Groups, Why: r.Why}, func(meta.Result, error) {})
}

// missing says which nodes were not heard of for so long that they are replaced,
// and which should not lead.
func (l *life) missing(v *meta.View) (lost, unfit []identity.NodeID) {
	for _, n := range v.NodesIn(meta.NodeJoining, meta.NodeActive, meta.NodeDraining) {
		i := l.w.machineOf(n.ID)
		if n.ID == l.ident {
			continue
		}
		if h, ok := l.heard[i]; ok && l.w.now-h.at < downAfter {
			delete(l.silent, i)
			continue
		}
		s, ok := l.silent[i]
		if !ok {
			s = since{l.w.now}
			l.silent[i] = s
		}
		switch silent := l.w.now - s.at; {
		case silent >= time.Duration(l.w.set.ReplaceMs)*time.Millisecond:
			lost = append(lost, n.ID)
		case silent >= downAfter:
			unfit = append(unfit, n.ID)
		}
	}
	return lost, unfit
}
