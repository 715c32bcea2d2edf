package sim

import (
	"fmt"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/storage"
)

// heal ends the faults and lets everything get done; what does not is a
// violation of liveness.
func (w *world) heal() error {
	do := func(o op) error {
		_, err := w.do(o)
		return err
	}
	// Log time waits for clocks that were set back: as long as they are behind.
	for _, n := range w.nodes[1:] {
		n.wall = w.ahead
	}
	for i := range w.cut {
		w.cut[i] = false
	}
	for i := 1; i < len(w.nodes); i++ {
		if w.nodes[i].life == nil {
			if err := do(op{kind: opStart, a: i}); err != nil {
				return err
			}
		}
	}
	if err := w.settleSeats(); err != nil {
		return err
	}
	for _, c := range w.clients {
		c.quiet, c.zombies = true, nil
	}
	for round, last, at := 0, 0, 0; ; round++ {
		if err := w.round(round, do); err != nil {
			return err
		}
		why := w.undone()
		if why == "" {
			break
		}
		if w.progress != last {
			last, at = w.progress, round
		}
		if round > at+300 {
			return fmt.Errorf("after %d rounds without faults, %d of them without progress: %s", round, round-at, why)
		}
	}
	for i := 1; i < len(w.nodes); i++ {
		for g := 1; g <= w.set.Groups; g++ {
			if w.group(i, g) == nil {
				continue
			}
			if err := do(op{kind: opVerify, a: i, b: g}); err != nil {
				return err
			}
			for n := range uint64(20) {
				if err := do(op{kind: opRead, a: i, b: g, n: n * 0x1_2345_6789}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// settleSeats wishes for a replica on each node, new ones where they are dead.
func (w *world) settleSeats() error {
	for g := storage.GroupID(1); int(g) <= w.set.Groups; g++ {
		for i := 1; i < len(w.nodes); i++ {
			s := w.nodes[i].seats[g]
			switch {
			case s == nil:
				w.seat(g, i, i <= w.set.Voters)
				w.nodes[i].open(g)
			case s.dead:
				s.gone = true
			case !s.gone || w.oracle.groups[g].conf.Has(s.id) && !s.tomb:
				s.gone, s.voter = false, i <= w.set.Voters
			}
		}
	}
	return nil
}

// boot has all nodes join before the faults begin.
func (w *world) boot() error {
	do := func(o op) error {
		_, err := w.do(o)
		return err
	}
	for round := 0; ; round++ {
		if err := w.turn(do); err != nil {
			return err
		}
		why := ""
		for g := storage.GroupID(1); int(g) <= w.set.Groups; g++ {
			why += w.reached(g)
		}
		if why == "" {
			return nil
		}
		if round > 400 {
			return fmt.Errorf("after %d rounds without faults: %s", round, why)
		}
	}
}

// nudge has the leader of a group propose something, so that all learn, on disk,
// what is committed: an idle group tells them only in memory.
func (w *world) nudge(g int) {
	for i := 1; i < len(w.nodes); i++ {
		if x := w.group(i, g); x != nil && x.leader != nil && len(x.leader.orders) == 0 {
			x.leader.orders = append(x.leader.orders, order{
				add:  func(b *repository.EntryBuilder) { b.AddHousekeep(1) },
				done: func(*repository.Results, bool) {},
			})
		}
	}
}

// turn lets a tick pass, and all that follows from it.
func (w *world) turn(do func(op) error) error {
	for i := 1; i < len(w.nodes); i++ {
		if err := do(op{kind: opTick, a: i}); err != nil {
			return err
		}
		for g := 1; g <= w.set.Groups; g++ {
			if err := do(op{kind: opMove, a: i, b: g}); err != nil {
				return err
			}
			if s := w.nodes[i].seats[storage.GroupID(g)]; s != nil && s.gone {
				if err := do(op{kind: opRemove, a: i, b: g, n: 5}); err != nil {
					return err
				}
				w.nudge(g)
				if w.nodes[i].seats[storage.GroupID(g)] == nil {
					w.seat(storage.GroupID(g), i, i <= w.set.Voters)
					w.nodes[i].open(storage.GroupID(g))
				}
			}
		}
	}
	return w.drainAll(do)
}

// round is a turn of everything, without faults.
func (w *world) round(round int, do func(op) error) error {
	if err := w.turn(do); err != nil {
		return err
	}
	for i, p := range w.producers {
		p.find()
		if len(p.stream.out) == 0 {
			for n := range 3 {
				if err := do(op{kind: opSend, a: i, n: uint64(round*3 + n)}); err != nil {
					return err
				}
			}
		}
	}
	for i, x := range w.workers {
		x.find()
		for _, k := range []kind{opPull, opSettle, opSettle, opRenew} {
			if err := do(op{kind: k, a: len(w.producers) + i, n: uint64(round)}); err != nil {
				return err
			}
		}
	}
	return w.drainAll(do)
}

// drainAll does all that can be done.
func (w *world) drainAll(do func(op) error) error {
	for {
		before := w.quiet()
		for _, o := range w.work() {
			if err := do(o); err != nil {
				return err
			}
		}
		if w.quiet() == before && len(w.work()) == 0 {
			return nil
		}
	}
}

func (w *world) quiet() int { return int(w.hash) }

// work lists what can be done now.
func (w *world) work() (ops []op) {
	for i := 1; i < len(w.nodes); i++ {
		for j := 1; j < len(w.nodes); j++ {
			if n := len(w.links[w.link(i, j)]); n > 0 {
				ops = append(ops, op{kind: opDeliver, a: i, b: j, n: uint64(n)})
			}
		}
		l := w.nodes[i].life
		if l == nil {
			continue
		}
		if len(l.writes) > 0 && l.written == 0 {
			ops = append(ops, op{kind: opWrite, a: i, n: 100})
		}
		if l.written > 0 {
			ops = append(ops, op{kind: opSync, a: i})
		}
		if len(l.applies) > 0 {
			ops = append(ops, op{kind: opApply, a: i, n: 100})
		}
		if len(l.wanted) > 0 {
			ops = append(ops, op{kind: opPhoto, a: i})
		}
		for _, g := range l.groups {
			if g.install != nil {
				ops = append(ops, op{kind: opInstall, a: i, b: int(g.id)})
			}
			if g.leader != nil && g.leader.wants() {
				ops = append(ops, op{kind: opPropose, a: i, b: int(g.id)})
			}
		}
	}
	for range w.parcels {
		ops = append(ops, op{kind: opCarry})
	}
	for i, c := range w.clients {
		for range c.stream.out {
			ops = append(ops, op{kind: opRequest, a: i})
		}
		for range c.stream.in {
			ops = append(ops, op{kind: opReply, a: i})
		}
	}
	return ops
}

// undone says what is still to be done, or "".
func (w *world) undone() string {
	for _, p := range w.producers {
		if p.busy() {
			return p.waits()
		}
	}
	for g := 1; g <= w.set.Groups; g++ {
		if repo, seq := w.oracle.groups[storage.GroupID(g)].unsettled(w, g); repo != "" {
			return fmt.Sprintf("packet %d of %s is not settled", seq, repo)
		}
		if why := w.reached(storage.GroupID(g)); why != "" {
			return why
		}
		leads := false
		t := w.oracle.groups[storage.GroupID(g)]
		last := t.first + uint64(len(t.applied)) - 1
		for i := 1; i < len(w.nodes); i++ {
			x := w.group(i, g)
			if x == nil {
				return fmt.Sprintf("group %d does not run on node %d", g, i)
			}
			leads = leads || x.leader != nil
			if s := x.core.Status(); x.applied != last || s.Last != last {
				return fmt.Sprintf("group %d is applied to %d of %d on node %d", g, x.applied, last, i)
			}
		}
		if !leads {
			return fmt.Sprintf("group %d has no leader", g)
		}
	}
	return ""
}
