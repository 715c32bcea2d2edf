package mover

import (
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// chaos is a toy whose nodes see meta late, whose reports arrive late and more
// than once, and whose deposed leaders go on for a while.
type chaos struct {
	*toy
	t       *testing.T
	rng     *rand.Rand
	did     map[string]int
	nodes   []string
	views   map[identity.NodeID]*meta.View
	pending *pb.ConfState
	reports []*meta.ReportGroup
	zombies []toy
	// erased were deleted after they were retired; broken ones are none of them.
	erased map[storage.ReplicaID]bool
}

func newChaos(t *testing.T, seed uint64) *chaos {
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("seed %d: "+format, append([]any{seed}, args...)...)
	}
	c := &chaos{
		toy: newToy(fail), t: t, rng: rand.New(rand.NewPCG(seed, 1)), did: map[string]int{}, nodes: []string{"a", "b", "c", "d", "e", "f"},
		views: map[identity.NodeID]*meta.View{}, erased: map[storage.ReplicaID]bool{},
	}
	for _, n := range c.nodes[1:] {
		c.must(&meta.JoinNode{Node: member(n)})
		c.must(&meta.SetNodeState{Node: nodeID(n), State: meta.NodeActive})
	}
	c.sync()
	return c
}

func (c *chaos) sync() {
	for _, n := range c.nodes {
		c.views[nodeID(n)] = c.view
	}
}

func (c *chaos) node() string { return c.nodes[c.rng.IntN(len(c.nodes))] }

func (c *chaos) bool() bool { return c.rng.IntN(2) == 0 }

// holds says that every configuration that is or may come next has a majority
// among the living.
func (c *chaos) holds() bool {
	for _, conf := range []*pb.ConfState{c.conf, c.pending} {
		if conf == nil {
			continue
		}
		left := conf
		if len(conf.GetVotersOutgoing()) > 0 {
			left, _ = changed(conf, &pb.ConfChangeV2{})
		}
		if !c.hasQuorum(conf) || !c.hasQuorum(left) {
			return false
		}
	}
	return true
}

func (c *chaos) check() {
	if !c.holds() {
		c.fatalf("no majority of %s lives", c.members())
	}
	for _, conf := range []*pb.ConfState{c.conf, c.pending} {
		for _, v := range slices.Concat(conf.GetVoters(), conf.GetVotersOutgoing()) {
			if c.erased[storage.ReplicaID(v)] {
				c.fatalf("replica %d votes in %s after it was deleted", v, describe(c.toy, conf))
			}
		}
	}
}

// event does one thing at random.
func (c *chaos) event() {
	rare := []func(){c.setWish, c.setWish, c.quarantine, c.failNode, c.newLeader}
	if c.rng.IntN(20) == 0 {
		rare[c.rng.IntN(len(rare))]()
		return
	}
	events := []func(){
		c.raiseNode, c.seeMeta, c.seeMeta, c.seeMeta, c.planLeader, c.planLeader, c.planLeader, c.decide, c.decide,
		c.leaveJoint, c.planZombie, c.deliver, c.deliver, c.catchUp, c.advance, c.eraseOne,
	}
	events[c.rng.IntN(len(events))]()
}

func (c *chaos) setWish() {
	g := meta.GroupWish{Group: partition}
	order := slices.Clone(c.nodes)
	c.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	voters := []int{1, 3, 3, 5}[c.rng.IntN(4)]
	total := voters + c.rng.IntN(len(order)-voters+1)
	for i, n := range order[:total] {
		w := meta.ReplicaWish{Node: nodeID(n), Role: meta.Learner}
		if i < voters {
			w.Role, w.Leader = meta.Voter, i == 0
		}
		w.Replica, _ = c.view.ReplicaOn(partition, w.Node)
		g.Replicas = append(g.Replicas, w)
	}
	// It is refused where an older replica is not deleted yet.
	_ = c.apply(&meta.SetMap{Generation: c.view.Cluster.Generation, Groups: []meta.GroupWish{g}})
}

func (c *chaos) quarantine() {
	id, ok := c.view.ReplicaOn(partition, nodeID(c.node()))
	before := c.view
	if !ok || c.apply(&meta.ReplaceReplica{Group: partition, Replica: id, Why: "test"}) != nil {
		return
	}
	if !c.holds() { // meta cannot know who is down: such a break is a second one
		c.view = before
		return
	}
	c.did["broken"]++
	c.electIfDead()
}

func (c *chaos) failNode() {
	n := nodeID(c.node())
	c.down[n] = true
	if !c.holds() {
		c.down[n] = false
		return
	}
	c.electIfDead()
	c.notice()
}

func (c *chaos) raiseNode() { c.down[nodeID(c.node())] = false }
func (c *chaos) seeMeta()   { c.views[nodeID(c.node())] = c.view }

// notice lets so much time pass that the leader knows who is down.
func (c *chaos) notice() {
	in := c.input(c.views[c.nodeOf(c.leader)])
	in.Busy = true
	for range 10 {
		c.now += 200 * time.Millisecond
		in.Now = c.now
		c.mover.Plan(in)
	}
}

func (c *chaos) electIfDead() {
	if !c.lives(c.leader) {
		c.newLeader()
	}
	c.notice()
}

// newLeader has a living voter lead. What was proposed is in its log or not.
func (c *chaos) newLeader() {
	c.settlePending(c.bool())
	var able []storage.ReplicaID
	for _, v := range c.conf.GetVoters() {
		if id := storage.ReplicaID(v); c.lives(id) && c.match[id] == c.commit {
			able = append(able, id)
		}
	}
	if len(able) == 0 {
		return
	}
	c.depose()
	c.elect(able[c.rng.IntN(len(able))])
	c.notice()
}

// depose remembers the leader as one that does not know that it is none.
func (c *chaos) depose() {
	c.zombies = append(c.zombies, *c.toy)
	if len(c.zombies) > 3 {
		c.zombies = c.zombies[1:]
	}
}

// advance commits something, on a majority.
func (c *chaos) advance() {
	if c.pending != nil || !c.lives(c.leader) {
		return
	}
	have := []storage.ReplicaID{c.leader}
	members := ids(c.conf.GetVoters(), c.conf.GetVotersOutgoing())
	c.rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	enough := func(voters []uint64) bool {
		n := 0
		for _, v := range voters {
			if slices.Contains(have, storage.ReplicaID(v)) {
				n++
			}
		}
		return len(voters) == 0 || n > len(voters)/2
	}
	for _, id := range members {
		if id != c.leader && c.lives(id) && (c.bool() || !enough(c.conf.GetVoters()) || !enough(c.conf.GetVotersOutgoing())) {
			have = append(have, id)
		}
	}
	if !enough(c.conf.GetVoters()) || !enough(c.conf.GetVotersOutgoing()) {
		return
	}
	c.commit100(have)
}

func (c *chaos) commit100(have []storage.ReplicaID) {
	c.commit += 100
	for _, id := range have {
		c.match[id] = c.commit
	}
}

func (c *chaos) settlePending(kept bool) {
	if c.pending != nil && kept {
		c.conf = c.pending
	}
	c.pending, c.busy = nil, false
}

func (c *chaos) planLeader() {
	if !c.lives(c.leader) {
		return
	}
	c.now += 200 * time.Millisecond
	c.busy = c.pending != nil
	s := c.mover.Plan(c.input(c.views[c.nodeOf(c.leader)]))
	switch s.Kind {
	case Report:
		c.reports = append(c.reports, s.Report)
	case Change:
		now := c.conf
		c.did["change"]++
		c.propose(s.Change)
		c.pending, c.conf = c.conf, now
		if len(c.pending.GetVotersOutgoing()) > 0 {
			c.did["swap"]++
		}
		if len(c.pending.GetVoters()) == 5 {
			c.did["voters"]++
		}
	case Transfer:
		if c.lives(s.To) {
			c.did["transfer"]++
			c.settlePending(true)
			c.depose()
			c.elect(s.To)
			c.notice()
		}
	}
}

func (c *chaos) decide() { c.settlePending(c.pending != nil && c.hasQuorum(c.pending)) }

func (c *chaos) leaveJoint() {
	if c.pending == nil {
		c.leave()
	}
}

// planZombie has a deposed leader, which does not know it yet, report.
func (c *chaos) planZombie() {
	if len(c.zombies) == 0 {
		return
	}
	z := &c.zombies[c.rng.IntN(len(c.zombies))]
	in := z.input(c.views[c.nodeOf(z.leader)])
	in.Now, in.Busy = c.now, false
	if in.View == nil {
		return
	}
	if s := z.mover.Plan(in); s.Kind == Report {
		c.did["zombie"]++
		c.reports = append(c.reports, s.Report)
	}
}

// deliver has meta take a report, some time after it was made, and maybe again.
func (c *chaos) deliver() {
	if len(c.reports) == 0 {
		return
	}
	i := c.rng.IntN(len(c.reports))
	if c.apply(c.reports[i]) != nil {
		c.did["refused"]++ // it is too late
	}
	if c.bool() {
		c.reports = slices.Delete(c.reports, i, i+1)
	}
}

// eraseOne has a node delete what it may, as far as it knows.
func (c *chaos) eraseOne() {
	n := nodeID(c.node())
	if c.down[n] {
		return
	}
	for _, r := range c.views[n].GroupReplicas(partition) {
		if r.Node != n || r.State.Runs() {
			continue
		}
		c.gone[r.ID] = true
		if r.State == meta.ReplicaRetired {
			c.erased[r.ID] = true
			c.did["erased"]++
		}
		c.must(&meta.ReplicaGone{Group: partition, Replica: r.ID})
	}
}

// heal ends all faults and looks that the group comes to where the map wants it.
func (c *chaos) heal() {
	c.down = map[identity.NodeID]bool{}
	c.settlePending(true)
	for _, r := range c.reports {
		_ = c.apply(r)
	}
	c.reports = nil
	c.sync()
	c.check()
	for range 400 {
		c.planLeader()
		c.settlePending(true)
		c.leave()
		for _, r := range c.reports {
			_ = c.apply(r)
		}
		c.reports = nil
		c.sync()
		c.catchUp()
		for _, n := range c.nodes {
			c.eraseNode(nodeID(n))
		}
		c.check()
	}
	p, _ := c.view.Placement(partition)
	for _, r := range c.view.GroupReplicas(partition) {
		if r.State != meta.ReplicaWanted {
			c.fatalf("replica %d is %s in the end; %s", r.ID, r.State, c.members())
		}
		if r.Leader && r.ID != c.leader {
			c.fatalf("replica %d does not lead in the end: %s", r.ID, c.members())
		}
	}
	if p.Moving() {
		c.fatalf("never arrives: %s, %+v", c.members(), c.view.Wish(partition))
	}
}

func (c *chaos) eraseNode(n identity.NodeID) {
	for _, r := range c.view.ReplicasOn(n) {
		if r.Group == partition && !r.State.Runs() {
			c.gone[r.ID] = true
			c.erased[r.ID] = c.erased[r.ID] || r.State == meta.ReplicaRetired
			c.must(&meta.ReplicaGone{Group: partition, Replica: r.ID})
		}
	}
}

var histories = flag.Uint64("histories", 80, "how many random histories are tried")

// Whatever happens, a majority lives, no deleted replica votes, and in the end
// the group is where the map wants it.
func TestRandomHistories(t *testing.T) {
	did := map[string]int{}
	for seed := range *histories {
		c := newChaos(t, seed)
		for range 600 {
			c.event()
			c.check()
		}
		c.heal()
		for what, n := range c.did {
			did[what] += n
		}
	}
	t.Logf("done: %v", did)
	for _, what := range []string{"voters", "swap", "transfer", "erased", "broken", "zombie", "refused"} {
		if did[what] == 0 {
			t.Errorf("no history had %q: %v", what, did)
		}
	}
}
