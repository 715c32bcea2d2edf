package mover

import (
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/replica"
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
	pending *replica.Conf
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
	for _, conf := range c.possible() {
		if !c.hasQuorum(conf) || !c.hasQuorum(left(conf)) {
			return false
		}
	}
	return true
}

// possible are the configuration and the one that is proposed.
func (c *chaos) possible() []replica.Conf {
	if c.pending == nil {
		return []replica.Conf{c.conf}
	}
	return []replica.Conf{c.conf, *c.pending}
}

func (c *chaos) check() {
	if !c.holds() {
		c.fatalf("no majority of %s lives", c.members())
	}
	for _, conf := range c.possible() {
		for _, v := range slices.Concat(conf.Voters, conf.Outgoing) {
			if c.erased[v] {
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
	for range 10 {
		c.now += 200 * time.Millisecond
		in.Now = c.now
		c.mover.look(&in)
	}
}

func (c *chaos) electIfDead() {
	if !c.lives(c.leader) {
		c.newLeader()
	}
	c.notice()
}

// newLeader has a living voter lead. What was proposed is in its log or not; it
// may end up as no member by that, and then gives up.
func (c *chaos) newLeader() {
	c.depose()
	c.settlePending(c.bool())
	var able []storage.ReplicaID
	for _, id := range c.conf.Voters {
		if c.lives(id) && c.match[id] == c.commit {
			able = append(able, id)
		}
	}
	if len(able) == 0 {
		return
	}
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
	members := everybody(replica.Conf{Voters: c.conf.Voters, Outgoing: c.conf.Outgoing})
	c.rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	enough := func(voters []storage.ReplicaID) bool {
		n := 0
		for _, v := range voters {
			if slices.Contains(have, v) {
				n++
			}
		}
		return len(voters) == 0 || n > len(voters)/2
	}
	for _, id := range members {
		if id != c.leader && c.lives(id) && (c.bool() || !enough(c.conf.Voters) || !enough(c.conf.Outgoing)) {
			have = append(have, id)
		}
	}
	if !enough(c.conf.Voters) || !enough(c.conf.Outgoing) {
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

// settlePending decides about what was proposed, and tells the leader, unless it
// is none any more.
func (c *chaos) settlePending(kept bool) {
	if c.pending == nil {
		return
	}
	if kept {
		c.conf = *c.pending
		c.mover.Done(c.term, Made)
	}
	c.pending = nil
}

func (c *chaos) planLeader() {
	if !c.lives(c.leader) {
		return
	}
	c.now += 200 * time.Millisecond
	s := c.mover.Plan(c.input(c.views[c.nodeOf(c.leader)]))
	switch s.Kind {
	case Report:
		c.reports = append(c.reports, s.Report)
		c.mover.Done(c.term, []Outcome{Made, NotMade, Unknown}[c.rng.IntN(3)])
	case Change:
		now := c.conf
		c.did["change"]++
		c.propose(s.Change)
		next := c.conf
		c.pending, c.conf = &next, now
		if next.Joint() {
			c.did["swap"]++
		}
		if len(next.Voters) == 5 {
			c.did["voters"]++
		}
	case Transfer:
		if c.lives(s.To) {
			c.did["transfer"]++
			c.mover.Done(c.term, Made)
			c.depose()
			c.elect(s.To)
			c.notice()
		}
	}
}

func (c *chaos) decide() {
	if c.pending != nil && c.hasQuorum(*c.pending) {
		c.settlePending(true)
	}
}

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
	in.Now = c.now
	if in.View == nil {
		return
	}
	z.mover.Done(z.term, Unknown) // of what it proposed last
	if s := z.mover.Plan(in); s.Kind == Report {
		c.did["zombie"]++
		z.mover.Done(z.term, Made)
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
	c.catchUp()
	if !c.conf.Votes(c.leader) {
		c.newLeader()
	}
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

var histories = flag.Uint64("histories", 60, "how many random histories are tried")

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
