package sim

import (
	"fmt"

	"github.com/waystation/waystation/cluster/meta"
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
	for {
		if err := w.finish(do); err != nil {
			return err
		}
		met := w.flips
		if err := w.verifyAll(do); err != nil || met == w.flips {
			return err
		}
	}
}

// finish lets everything get done.
func (w *world) finish(do func(op) error) error {
	for round, last, at := 0, 0, 0; ; round++ {
		if err := w.round(round, do); err != nil {
			return err
		}
		why := w.undone()
		if why == "" {
			return nil
		}
		if w.progress != last {
			last, at = w.progress, round
		}
		if round > at+300 {
			return fmt.Errorf("after %d rounds without faults, %d of them without progress: %s", round, round-at, why)
		}
	}
}

// verifyAll reads all that there is: what of it is damaged is found now.
func (w *world) verifyAll(do func(op) error) error {
	for i := 1; i < len(w.nodes); i++ {
		for g := 0; g <= w.set.Groups; g++ {
			if w.group(i, g) == nil {
				continue
			}
			if err := do(op{kind: opVerify, a: i, b: g}); err != nil {
				return err
			}
			for n := range uint64(20 * min(g, 1)) {
				if err := do(op{kind: opRead, a: i, b: g, n: n * 0x1_2345_6789}); err != nil {
					return err
				}
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
		for i := 2; i <= w.set.Members && w.oracle.view.Made(); i++ {
			if !w.nodes[i].member {
				if err := do(op{kind: opJoin, a: i, b: 1, n: 1}); err != nil {
					return err
				}
			}
		}
		if err := w.turn(do); err != nil {
			return err
		}
		why := w.settled()
		if n := len(w.oracle.view.NodesIn(meta.NodeActive)); n < w.set.Members {
			why = fmt.Sprintf("%d nodes of %d are active", n, w.set.Members)
		}
		if why == "" {
			return nil
		}
		if round > 600 {
			return fmt.Errorf("after %d rounds without faults: %s", round, why)
		}
	}
}

// settled says which group is not as the map wants it, or "".
func (w *world) settled() string {
	for g := storage.GroupID(0); int(g) <= w.set.Groups; g++ {
		if why := w.reached(g); why != "" {
			return why
		}
		if p, _ := w.oracle.view.Placement(g); p.Moving() {
			return fmt.Sprintf("group %d moves", g)
		}
	}
	return ""
}

// turn lets a tick pass, and all that follows from it.
func (w *world) turn(do func(op) error) error {
	for i := 1; i < len(w.nodes); i++ {
		if err := do(op{kind: opTick, a: i}); err != nil {
			return err
		}
		for g := 0; g <= w.set.Groups; g++ {
			for _, o := range []op{{kind: opMove, n: 100}, {kind: opChores, n: 100}, {kind: opDead, c: 1, n: uint64(w.steps)}} {
				if o.a, o.b = i, g; w.set.Policies == 0 && o.kind == opDead {
					continue
				}
				if err := do(o); err != nil {
					return err
				}
			}
		}
		for _, k := range []kind{opKeep, opDraw} {
			if err := do(op{kind: k, a: i, n: 5}); err != nil {
				return err
			}
		}
	}
	return w.drainAll(do)
}

// finishJoins has those ask again who were taken in and did not hear of it.
func (w *world) finishJoins(round int, do func(op) error) error {
	for i := 1; i < len(w.nodes); i++ {
		n := w.nodes[i]
		if _, known := w.oracle.view.Node(n.ident); !known || n.member || n.over {
			continue
		}
		if err := do(op{kind: opJoin, a: i, b: 1 + round%w.set.Nodes, n: 1}); err != nil {
			return err
		}
	}
	return nil
}

// undrain has an operator take every drain back.
func (w *world) undrain() {
	for _, n := range w.oracle.view.NodesIn(meta.NodeDraining) {
		for _, m := range w.nodes[1:] {
			if m.life != nil {
				m.life.ask("admin", &meta.SetNodeState{Node: n.ID, State: meta.NodeActive}, func(meta.Result, error) {})
				break
			}
		}
	}
}

// round is a turn of everything, without faults.
func (w *world) round(round int, do func(op) error) error {
	if err := w.finishJoins(round, do); err != nil {
		return err
	}
	w.undrain()
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
		if c := l.idle(); c >= 0 {
			ops = append(ops, op{kind: opCall, a: i, b: c})
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
	for range w.mails {
		ops = append(ops, op{kind: opMail})
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
	}
	if why := w.settled(); why != "" {
		return why
	}
	for g := 0; g <= w.set.Groups; g++ {
		if why := w.behind(g); why != "" {
			return why
		}
	}
	return ""
}

// behind says which replica of a group lacks something, or "".
func (w *world) behind(g int) string {
	leads := false
	t := w.oracle.groups[storage.GroupID(g)]
	last := t.first + uint64(len(t.applied)) - 1
	for _, r := range w.oracle.view.Wish(storage.GroupID(g)) {
		i := w.machineOf(r.Node)
		x := w.group(i, g)
		if x == nil || x.replica != r.ID {
			return fmt.Sprintf("replica %d of group %d does not run on node %d", r.ID, g, i)
		}
		leads = leads || x.leads != 0
		if s := x.core.Status(); x.applied != last || s.Last != last {
			return fmt.Sprintf("group %d is applied to %d of %d on node %d", g, x.applied, last, i)
		}
	}
	if !leads {
		return fmt.Sprintf("group %d has no leader", g)
	}
	return ""
}
