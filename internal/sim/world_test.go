package sim

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

// settings are what a run is made with; a script holds them.
type settings struct {
	Seed      uint64
	Nodes     int // machines
	Members   int // nodes that join before the faults begin
	Groups    int // raft groups, each a partition
	Repos     int // of each group
	Producers int
	Window    int // packets in flight of a producer and repository
	Entry     int // packets in an entry
	Cache     int // bytes of the entry cache
	WindowMs  int // dedup window
	Workers   int
	Consumers int // consumer groups
	LeaseMs   int
	// Replication is how many copies a partition is to have; ReplaceMs, when a node
	// that is not heard of is replaced.
	Replication int
	ReplaceMs   int
	// TTLMs is the longest time to live that packets are sent with, RetentionMs
	// theirs; 0: none, and the default.
	TTLMs       int
	RetentionMs int
	Flips       int // 1: bits flip
	Policies    int // 1: groups have policies, packets wait, and dead letters are redriven or discarded
	Late        int // 1: a calm group's ticks wait, as the engine has them
}

func newSettings(seed uint64) settings {
	r := rand.New(rand.NewPCG(seed, 1))
	pick := func(v ...int) int { return v[r.IntN(len(v))] }
	s := settings{
		Seed: seed, Nodes: pick(3, 3, 3, 5), Groups: pick(1, 1, 2, 3), Repos: pick(1, 2, 3), Producers: pick(1, 2, 3, 4),
		Window: pick(2, 4, 8, 16), Entry: pick(1, 2, 4, 16), Cache: pick(1, 300, 2000, 1<<20), WindowMs: pick(10_000, 60_000, 3_600_000),
		Consumers: pick(1, 1, 2, 3), LeaseMs: pick(200, 500, 1000, 3000),
	}
	s.Members, s.Replication = s.Nodes, s.Nodes
	if s.Nodes > 3 && r.IntN(2) == 0 {
		s.Replication = 3
	}
	if r.IntN(4) == 0 {
		s.Members = 1 + r.IntN(s.Nodes)
	}
	s.ReplaceMs = pick(4000, 8000, 600_000)
	s.TTLMs, s.RetentionMs = pick(0, 0, 500, 5000), pick(0, 0, 60_000)
	s.Workers = pick(0, 1, 1, 2) * s.Consumers * s.Groups
	if rand.New(rand.NewPCG(seed, 5)).IntN(4) > 0 {
		s.Late = 1
	}
	if *policyFlag {
		s.Policies = 1
	}
	if *flipFlag {
		s.Flips = 1
	}
	return s
}

// world is a cluster with its clients.
type world struct {
	set       settings
	nodes     []*node // nodes[0] is nil: ids count from 1
	links     [][]packet
	cut       []bool
	producers []*producer
	workers   []*worker
	clients   []*client // of the producers, then of the workers
	parcels   []parcel
	mails     []mail
	folders   int                                   // that ever were
	machines  map[identity.NodeID]int               // where they are, or were
	removing  map[identity.NodeID]bool              // an operator asked for it
	where     map[storage.ReplicaID]identity.NodeID // replicas were given to
	oracle    *oracle
	now       time.Duration
	ahead     time.Duration // by how much a wall clock was ever ahead
	serial    uint64        // of packets
	steps     int
	progress  int // grows with all that gets done for somebody
	flip      *flip
	flips     int // that were met
	mistaken  int // nodes said to be gone that were not
	asked     int // to drain a node, and not known to be done
	hash      uint64
	counts    [kinds]int // ops that were done
}

// violation is a promise that did not hold. It travels as a panic.
type violation struct{ what string }

func (w *world) violate(format string, args ...any) {
	panic(violation{fmt.Sprintf(format, args...)})
}

func (w *world) must(err error) {
	if w.flip != nil && errors.Is(err, storage.ErrCorrupt) {
		panic(damage{err})
	}
	if err != nil {
		w.violate("error: %v", err)
	}
}

const epoch = 1_700_000_000_000 // of the wall clocks, in milliseconds

func newWorld(s settings) *world {
	w := &world{
		set: s, nodes: make([]*node, s.Nodes+1), hash: 14695981039346656037,
		machines: map[identity.NodeID]int{}, removing: map[identity.NodeID]bool{}, where: map[storage.ReplicaID]identity.NodeID{},
	}
	n := len(w.nodes)
	w.links, w.cut = make([][]packet, n*n), make([]bool, n*n)
	w.oracle = newOracle(w)
	for i := 1; i < n; i++ {
		w.nodes[i] = newNode(w, i)
	}
	w.nodes[1].found()
	for i := range s.Producers {
		w.producers = append(w.producers, newProducer(w, i))
		w.clients = append(w.clients, w.producers[i].client)
	}
	for i := range s.Workers {
		w.workers = append(w.workers, newWorker(w, i))
		w.clients = append(w.clients, w.workers[i].client)
	}
	return w
}

// note mixes what happened into the run's hash.
func (w *world) note(format string, args ...any) {
	h := fnv.New64a()
	fmt.Fprintf(h, format, args...)
	w.hash = w.hash*1099511628211 ^ h.Sum64()
	if *traceFlag {
		fmt.Printf("%d: "+format+"\n", append([]any{w.steps}, args...)...)
	}
}

// do runs one op; one that is not possible now does nothing, and answers false.
func (w *world) do(o op) (done bool, err error) {
	w.steps++
	done, err = w.try(o, w.step)
	if err == errMet { //nolint:errorlint // it is no more than that
		done, err = w.try(o, func(op) bool {
			w.quarantine()
			return true
		})
	}
	if done {
		w.counts[o.kind]++
		w.note("%s", o)
	}
	return done, err
}

// try makes an error of a panic.
func (w *world) try(o op, step func(op) bool) (done bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			if w.met(v) {
				err = errMet
				return
			}
			if x, ok := v.(violation); ok {
				err = fmt.Errorf("event %d (%s): %s", w.steps, o, x.what)
				return
			}
			err = fmt.Errorf("event %d (%s): panic: %v\n%s", w.steps, o, v, debug.Stack())
		}
	}()
	return step(o), nil
}

func (w *world) node(i int) *node {
	if i < 1 || i >= len(w.nodes) {
		return nil
	}
	return w.nodes[i]
}

// group returns a running replica, or nil.
func (w *world) group(n, g int) *group {
	if x := w.node(n); x != nil && x.life != nil {
		return x.life.group(storage.GroupID(g))
	}
	return nil
}

func (w *world) step(o op) bool {
	switch o.kind {
	case opDeliver, opDrop, opDouble, opCut, opMend:
		return w.netStep(o)
	case opSend, opRequest, opReply, opBreak, opRestart, opPull, opSettle, opRenew:
		return w.clientStep(o)
	case opPower:
		return w.power(o.n)
	case opAdmin:
		return w.admin(o.a, o.n)
	case opMail:
		return w.deliverMail(o.a, o.b != 0)
	case opCarry:
		return w.carry(o.a, o.b != 0)
	}
	n := w.node(o.a)
	if n == nil {
		return false
	}
	switch o.kind {
	case opStart:
		return n.start()
	case opJoin:
		return n.join(o.b, o.n%5 == 0)
	case opRollback:
		return n.rollback(o.n)
	case opFlip:
		return n.flipBit(storage.GroupID(o.b), o.n)
	case opClock:
		n.wall += time.Duration(int64(o.n)-1<<32) * time.Millisecond
		w.ahead = max(w.ahead, n.wall)
		return true
	}
	if n.life == nil {
		return false
	}
	return n.life.step(o)
}

// power takes it away from all nodes at once.
func (w *world) power(seed uint64) bool {
	for i, n := range w.nodes {
		if n != nil && n.life != nil {
			n.crash(seed + uint64(i))
		}
	}
	return true
}

// repos are the names of a group's repositories.
func (w *world) repos(g int) (names []string) {
	for i := range w.set.Repos {
		names = append(names, fmt.Sprintf("g%d/r%d", g, i))
	}
	return names
}

func partitionOf(g storage.GroupID) repository.PartitionID { return repository.PartitionID(g - 1) }

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 2)) }

// stats tells what a run was like.
func (w *world) stats() {
	fmt.Printf("%+v\n", w.set)
	for k, n := range w.counts {
		fmt.Printf("%s %d, ", kindNames[k], n)
	}
	fmt.Printf("flips met: %d, gone by mistake: %d\n", w.flips, w.mistaken)
	for g := 0; g <= w.set.Groups; g++ {
		t := w.oracle.groups[storage.GroupID(g)]
		n := uint64(0)
		for _, r := range t.repos {
			n += uint64(r.head)
		}
		fmt.Printf("group %d: %d entries, %d packets, %d leaders;", g, len(t.applied), n, len(t.leaders))
		for i := 1; i < len(w.nodes); i++ {
			x := w.group(i, g)
			if x == nil {
				continue
			}
			s := x.core.Status()
			fmt.Printf(" log %d to %d", s.First, s.Last)
		}
		fmt.Println()
	}
	for _, n := range w.nodes[1:] {
		fmt.Printf("node %d: %s %+v runs %v\n", n.id, n.ident, n.belong, n.life != nil)
		if n.life == nil {
			continue
		}
		fmt.Printf("  broken %v calls %d refused %v\n", n.life.broken, len(n.life.calls), n.life.refused)
		for _, g := range n.life.groups {
			s := g.core.Status()
			fmt.Printf("  group %d replica %d term %d leader %d %v applied %d commit %d log %d to %d install %v\n",
				g.id, g.replica, s.Term, s.Leader, *s.Conf, s.Applied, s.Commit, s.First, s.Last, g.install != nil)
		}
	}
	for _, r := range w.oracle.view.Replicas {
		fmt.Printf("replica %d of %d on %d: %s %s leads %v\n", r.ID, r.Group, r.Node[0], r.Role, r.State, r.Leader)
	}
	for _, n := range w.oracle.view.Nodes {
		fmt.Printf("%s is %s\n", n.ID, n.State)
	}
}
