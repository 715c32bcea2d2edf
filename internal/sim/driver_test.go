package sim

import (
	"math"
	"math/rand/v2"
)

// driver chooses the next op. What it likes is drawn from the seed, too, so that
// each run is another kind of bad day (swarm testing).
type driver struct {
	w       *world
	r       *rand.Rand
	weights [kinds]float64
	total   float64
	// asleep nodes do nothing, slow ones rarely use their disk, until that step.
	asleep, slow []int
	moody        float64
	harsh        bool    // logs are truncated before all have them
	lumps        float64 // how often ticks come in a lump
	wrong        float64 // how often a node that lives is said to be gone
	direct       float64 // how often a producer finds the leader at once
}

func newDriver(w *world) *driver {
	r := rand.New(rand.NewPCG(w.set.Seed, 3))
	d := &driver{w: w, r: r, asleep: make([]int, len(w.nodes)), slow: make([]int, len(w.nodes))}
	d.weights = [kinds]float64{
		opTick: 4, opDeliver: 40, opWrite: 12, opSync: 12, opApply: 16, opPropose: 10,
		opSend: 8, opRequest: 12, opReply: 14, opStart: 4,
		opPull: 6, opSettle: 8, opRenew: 3,
		opMove: 2, opKeep: 2, opDraw: 0.5, opCall: 6, opMail: 8, opJoin: 0.5, opPhoto: 4, opCarry: 4, opInstall: 8, opChores: 1, opGone: 8, opRead: 1, opVerify: 0.2,
	}
	for k := range d.weights { // work of all kinds, at another pace
		d.weights[k] *= math.Exp(r.Float64()*2 - 1)
	}
	faults := []struct {
		kind kind
		most float64
	}{
		{opDrop, 10},
		{opDouble, 6},
		{opCut, 1.5},
		{opSpill, 10},
		{opTruncate, 4},
		{opFlush, 3},
		{opCrash, 2},
		{opPower, 0.6},
		{opClock, 0.5},
		{opBreak, 2},
		{opRestart, 0.5},
		{opTransfer, 0.5},
		{opAdmin, 0.3},
		{opRollback, 6},
	}
	for _, f := range faults {
		if r.IntN(3) > 0 {
			d.weights[f.kind] = f.most * math.Exp(-3*r.Float64())
		}
	}
	if f := rand.New(rand.NewPCG(w.set.Seed, 4)); w.set.Flips > 0 && f.IntN(2) == 0 {
		d.weights[opFlip] = 4 * math.Exp(-3*f.Float64())
	}
	if w.set.Policies > 0 {
		d.weights[opDead] = 5
	}
	d.weights[opMend] = 2 * d.weights[opCut]
	if d.weights[opTruncate] > 0 {
		d.weights[opSpill], d.weights[opFlush] = max(d.weights[opSpill], 4), max(d.weights[opFlush], 1)
	}
	d.moody = 0.003 * r.Float64() * float64(r.IntN(2))
	d.harsh = r.IntN(2) == 0
	late := rand.New(rand.NewPCG(w.set.Seed, 6))
	d.lumps = 0.1 * late.Float64() * float64(late.IntN(2))
	d.wrong = math.Exp(-5*late.Float64()) * float64(late.IntN(2))
	d.direct = 0.5 + r.Float64()/2
	for _, x := range d.weights {
		d.total += x
	}
	return d
}

func (d *driver) kind() kind {
	x := d.r.Float64() * d.total
	for k, weight := range d.weights {
		if x -= weight; x < 0 {
			return kind(k)
		}
	}
	return opTick
}

func (d *driver) nodeAt() int { return 1 + d.r.IntN(d.w.set.Nodes) }

// next chooses an op that is likely to be possible.
func (d *driver) next() op {
	w, r := d.w, d.r
	if r.Float64() < d.moody {
		d.asleep[d.nodeAt()] = w.steps + r.IntN(2000)
	}
	if r.Float64() < d.moody {
		d.slow[d.nodeAt()] = w.steps + r.IntN(4000)
	}
	for vain := 1; ; vain++ {
		if vain%maxVain == 0 {
			clear(d.asleep) // all sleep, and nothing but what they do brings their end nearer
		}
		o := op{kind: d.kind(), a: d.nodeAt(), n: 1}
		if !d.fill(&o) {
			continue
		}
		return o
	}
}

// maxVain is after how many ops that are not possible the driver wakes all nodes.
const maxVain = 100_000

func (d *driver) awake(n int) bool { return d.asleep[n] <= d.w.steps }

func (d *driver) disk(n int) bool {
	return d.awake(n) && (d.slow[n] <= d.w.steps || d.r.IntN(40) == 0)
}

// fill draws an op's arguments; false: not now.
func (d *driver) fill(o *op) bool {
	w, r := d.w, d.r
	life := w.nodes[o.a].life
	switch o.kind {
	case opDeliver, opDrop, opDouble:
		return d.fillLink(o)
	case opCut, opMend:
		o.b = d.nodeAt()
		return o.a != o.b && w.cut[w.link(o.a, o.b)] == (o.kind == opMend)
	case opSend, opRequest, opReply, opBreak, opRestart, opPull, opSettle, opRenew:
		return d.fillClient(o)
	case opPower:
		o.n = r.Uint64()
		return true
	case opAdmin:
		o.n = r.Uint64()
		return true
	case opJoin:
		o.b, o.n = d.nodeAt(), r.Uint64()
		return !w.nodes[o.a].member
	case opMail:
		if len(w.mails) == 0 {
			return false
		}
		o.a, o.b = 0, 0
		if r.IntN(4) == 0 {
			o.a = r.IntN(len(w.mails))
		}
		if d.weights[opDrop] > 0 && r.IntN(10) == 0 {
			o.b = 1
		}
		return true
	case opCarry:
		if len(w.parcels) == 0 {
			return false
		}
		o.a, o.b = r.IntN(len(w.parcels)), 0
		if d.weights[opDrop] > 0 && r.IntN(5) == 0 {
			o.b = 1
		}
		return true
	case opRollback:
		o.n = r.Uint64()
		return life == nil && len(w.nodes[o.a].older) > 1
	case opFlip:
		o.b, o.n = 1+r.IntN(w.set.Groups), r.Uint64()
		return w.nodes[o.a].member
	case opStart:
		return life == nil && w.nodes[o.a].member
	case opClock:
		ms := int64(math.Exp(r.Float64()*15)) * int64(1-2*r.IntN(2)) // up to 54 minutes
		o.n = uint64(ms + 1<<32)
		return true
	}
	if life == nil || !d.awake(o.a) {
		return false
	}
	o.b = r.IntN(w.set.Groups + 1)
	if o.kind == opPropose {
		o.b = 1 + r.IntN(w.set.Groups)
	}
	g := w.group(o.a, o.b)
	switch o.kind {
	case opKeep:
		o.b, o.n = 0, 5
		if d.weights[opCrash] > 0 {
			o.n = r.Uint64()
		}
		return true
	case opDraw:
		o.b = 0
		x := w.group(o.a, 0)
		return x != nil && x.registrar != 0
	case opCall:
		o.b = life.idle()
		return o.b >= 0
	case opPhoto:
		o.b = 0
		return len(life.wanted) > 0
	case opWrite:
		o.b, o.n = 0, uint64(1+r.IntN(6))
		return d.disk(o.a) && life.written == 0 && len(life.writes) > 0
	case opSync:
		o.b = 0
		return d.disk(o.a) && life.written > 0
	case opApply:
		o.b, o.n = 0, uint64(1+r.IntN(4))
		return len(life.applies) > 0
	case opFlush:
		o.b = 0
		return d.disk(o.a)
	case opCrash:
		o.b, o.n = 0, r.Uint64()
		return true
	case opTick:
		o.b = 0
		if r.Float64() < d.lumps {
			o.n = 1 + r.Uint64N(maxLump)
		}
		return true
	case opGone:
		return d.fillGone(o)
	case opPropose:
		if g := d.leading(o.b); g != nil && r.IntN(4) > 0 {
			o.a = g.life.id
		}
		g = w.group(o.a, o.b)
		return g != nil && g.leader != nil
	}
	if g == nil {
		return false
	}
	switch o.kind {
	case opInstall:
		return d.disk(o.a) && g.install != nil
	case opChores:
		o.n = uint64(1 + r.IntN(8))
		return g.leader != nil
	case opDead:
		o.n = r.Uint64()
		return g.leader != nil
	case opTransfer:
		o.c = d.nodeAt()
		return g.leads != 0
	case opMove:
		return g.leads != 0
	case opSpill:
		o.n = uint64(1 + r.IntN(10))
		return true
	case opTruncate:
		o.n = uint64(r.IntN(101))
		if d.harsh {
			o.c = r.IntN(2)
		}
		return true
	case opRead:
		o.n = r.Uint64()
		return true
	}
	return true
}

// fillGone tells a node that the process has ended which leads one of its groups;
// sometimes, though it has not.
func (d *driver) fillGone(o *op) bool {
	wrong := d.r.Float64() < d.wrong
	for _, g := range d.w.nodes[o.a].life.groups {
		for b := 1; b <= d.w.set.Nodes; b++ {
			if g.follows(b) != 0 && (wrong || d.w.nodes[b].life == nil) {
				o.b = b
				return true
			}
		}
	}
	return false
}

// maxLump is how many ticks come in a lump at most.
const maxLump = 20

func (d *driver) fillLink(o *op) bool {
	w, r := d.w, d.r
	o.b = d.nodeAt()
	q := w.links[w.link(o.a, o.b)]
	if len(q) == 0 || !d.awake(o.b) {
		return false
	}
	if r.IntN(10) == 0 || o.kind != opDeliver {
		o.c = r.IntN(len(q))
	}
	if o.kind == opDeliver {
		o.n = uint64(1 + r.IntN(3))
	}
	return true
}

func (d *driver) leading(g int) *group {
	var best *group
	for i := 1; i <= d.w.set.Nodes; i++ {
		if x := d.w.group(i, g); x != nil && x.leader != nil && (best == nil || x.leads > best.leads) {
			best = x
		}
	}
	return best
}

func (d *driver) fillClient(o *op) bool {
	w, r := d.w, d.r
	switch o.kind {
	case opSend, opRestart:
		o.a = r.IntN(len(w.producers))
	case opPull, opSettle, opRenew:
		if len(w.workers) == 0 {
			return false
		}
		o.a = len(w.producers) + r.IntN(len(w.workers))
	default:
		o.a = r.IntN(len(w.clients))
	}
	c := w.clients[o.a]
	if o.kind != opReply && o.kind != opBreak && o.kind != opRestart && d.leading(int(c.group)) == nil && r.IntN(10) > 0 {
		return false // it waits before it tries again
	}
	switch o.kind {
	case opSend, opPull, opSettle, opRenew:
		o.n = r.Uint64() >> 1
		return len(c.stream.out) < maxOut
	case opRequest:
		if len(c.zombies) > 0 && r.IntN(4) == 0 {
			o.b = 1 + r.IntN(len(c.zombies))
			return d.awake(c.zombies[o.b-1].node)
		}
		if g := d.leading(int(c.group)); g != nil && g.life.id != c.stream.node && r.Float64() < d.direct {
			*o = op{kind: opBreak, a: o.a, b: g.life.id} // it was told who leads
			return true
		}
		return len(c.stream.out) > 0 && d.awake(c.stream.node)
	case opReply:
		return len(c.stream.in) > 0
	case opBreak, opRestart:
		o.b = d.nodeAt()
		return o.kind == opBreak || w.producers[o.a].places
	}
	return true
}
