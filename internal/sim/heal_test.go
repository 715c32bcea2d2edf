package sim

import (
	"fmt"

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
	for _, c := range w.clients {
		c.quiet, c.zombies = true, nil
	}
	for round := 0; ; round++ {
		if err := w.round(round, do); err != nil {
			return err
		}
		if why := w.undone(); why == "" {
			break
		} else if round > 400 {
			return fmt.Errorf("after %d rounds without faults: %s", round, why)
		}
	}
	for i := 1; i < len(w.nodes); i++ {
		for g := 1; g <= w.set.Groups; g++ {
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

// round is a turn of everything, without faults.
func (w *world) round(round int, do func(op) error) error {
	for i := 1; i < len(w.nodes); i++ {
		if err := do(op{kind: opTick, a: i}); err != nil {
			return err
		}
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
		for _, g := range l.groups {
			if g.leader != nil && g.leader.wants() {
				ops = append(ops, op{kind: opPropose, a: i, b: int(g.id)})
			}
		}
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
		leads := false
		applied := w.group(1, g).applied
		for i := 1; i < len(w.nodes); i++ {
			x := w.group(i, g)
			leads = leads || x.leader != nil
			if s := x.core.Status(); x.applied != applied || s.Last != applied {
				return fmt.Sprintf("group %d is applied to %d on node %d, to %d on node 1", g, x.applied, i, applied)
			}
		}
		if !leads {
			return fmt.Sprintf("group %d has no leader", g)
		}
	}
	return ""
}
