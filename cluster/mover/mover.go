package mover

import (
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// Config is how patient a Mover is.
type Config struct {
	// Window is for how long a replica counts as living after it was seen
	// active. It is more than an election timeout.
	Window time.Duration
	// Steady is for how long a replica must have lived before it gets a vote or
	// the leadership.
	Steady time.Duration
	// Retry is the time between two tries to hand the leadership over.
	Retry time.Duration
	// MaxLag is how many entries a replica may be behind the commit index and
	// still count as caught up: what is on its way under load.
	MaxLag uint64
}

// DefaultConfig suits election timeouts of 0.5 to 1 s.
func DefaultConfig() Config {
	return Config{Window: 1500 * time.Millisecond, Steady: time.Second, Retry: 5 * time.Second, MaxLag: 32}
}

// Progress is how far the leader knows a replica to be.
type Progress struct {
	Replica storage.ReplicaID
	// Match is the last entry that it is known to have.
	Match uint64
	// Active says that it was heard of lately.
	Active bool
	// Snapshot says that it is being sent one.
	Snapshot bool
	// BehindBytes is what it lacks of the log, 0 if that is not known.
	BehindBytes int64
}

// Input is a group as its leader sees it. Nothing of it is kept or changed.
type Input struct {
	Group storage.GroupID
	// View is meta's state as this node has it.
	View *meta.View
	// Self is the leading replica, Term the term that it leads in and whose
	// first entry it has applied.
	Self storage.ReplicaID
	Term uint64
	// Conf is the configuration that it has applied.
	Conf *pb.ConfState
	// Commit is the commit index.
	Commit   uint64
	Progress []Progress
	// Busy says that a step is under way: a report or a change whose outcome is
	// not there yet, however long that takes, or a leadership that is being
	// handed over.
	Busy bool
	// Avoid are the nodes that should not lead, this one maybe among them, as far
	// as is known here: their clock is off, or they are about to stop. Draining
	// ones need not be named.
	Avoid []identity.NodeID
	// Now is the time since any fixed moment.
	Now time.Duration
}

// Kind says what a step is.
type Kind int

const (
	// None: the group is as it should be.
	None Kind = iota
	// Wait: it is not, and nothing can be done now.
	Wait
	// Report: Step.Report is to be proposed to meta.
	Report
	// Change: Step.Change is to be proposed to the group, in Input.Term.
	Change
	// Transfer: the leadership is to be handed to Step.To.
	Transfer
)

// String returns the kind in one word.
func (k Kind) String() string {
	switch k {
	case None:
		return "none"
	case Wait:
		return "wait"
	case Report:
		return "report"
	case Change:
		return "change"
	case Transfer:
		return "transfer"
	default:
		return fmt.Sprintf("kind(%d)", int(k))
	}
}

// Step is what is to be done now.
type Step struct {
	Kind   Kind
	Report *meta.ReportGroup
	Change *pb.ConfChangeV2
	To     storage.ReplicaID
	// Text says what the step does.
	Text string
	// Waits says what the group waits for, whatever the step: for people.
	Waits []string
}

// Mover plans the steps of one group. It is not safe for concurrent use.
type Mover struct {
	cfg  Config
	term uint64
	// seen is when a replica was last active, since when it has lived without a
	// break.
	seen, since map[storage.ReplicaID]time.Duration
	tried       time.Duration
	hasTried    bool
	jointSince  time.Duration
	joint       bool
}

// New returns a Mover that has seen nothing yet.
func New(c Config) *Mover { return &Mover{cfg: c} }

// Plan returns the next step. It is called only while this replica leads; it
// notices a new term by itself.
func (m *Mover) Plan(in Input) Step {
	m.look(&in)
	if len(in.View.Wish(in.Group)) == 0 {
		return Step{Kind: None}
	}
	g := m.group(&in)
	joint := g.isJoint()
	if joint && !m.joint {
		m.jointSince = in.Now
	}
	m.joint = joint
	switch {
	case in.Busy:
		return Step{Kind: Wait, Waits: []string{g.name() + ": a step is under way"}}
	case joint:
		return m.leaveJoint(g)
	}
	step := g.next()
	step.Waits = g.waits
	if step.Kind == None && len(g.waits) > 0 {
		step.Kind = Wait
	}
	if step.Kind == Transfer {
		m.tried, m.hasTried = in.Now, true
	}
	return step
}

// leaveJoint waits for raft, which leaves a joint configuration by itself, and
// helps if it was kept from it.
func (m *Mover) leaveJoint(g *group) Step {
	if g.in.Now-m.jointSince < m.cfg.Retry {
		return Step{Kind: Wait, Waits: []string{g.name() + ": its voters are changing"}}
	}
	m.jointSince = g.in.Now
	return Step{Kind: Change, Change: &pb.ConfChangeV2{}, Text: g.name() + ": leave the joint configuration"}
}

// look notes who is active.
func (m *Mover) look(in *Input) {
	if in.Term != m.term || m.seen == nil {
		m.term = in.Term
		m.seen, m.since = map[storage.ReplicaID]time.Duration{}, map[storage.ReplicaID]time.Duration{}
		m.hasTried, m.joint = false, false
	}
	for _, p := range in.Progress {
		last, known := m.seen[p.Replica]
		if !known || in.Now-last > m.cfg.Window {
			delete(m.since, p.Replica)
		}
		if !p.Active {
			continue
		}
		if _, lives := m.since[p.Replica]; !lives {
			m.since[p.Replica] = in.Now
		}
		m.seen[p.Replica] = in.Now
	}
	for id := range m.seen {
		if !slices.ContainsFunc(in.Progress, func(p Progress) bool { return p.Replica == id }) {
			delete(m.seen, id)
			delete(m.since, id)
		}
	}
}

// lives says that a replica was seen active lately.
func (m *Mover) lives(in *Input, id storage.ReplicaID) bool {
	_, ok := m.since[id]
	return ok || id == in.Self
}

// fresh says that it was active just now: one look alone may miss it.
func (m *Mover) fresh(in *Input, id storage.ReplicaID) bool {
	seen, ok := m.seen[id]
	return id == in.Self || ok && in.Now-seen <= m.cfg.Window/3
}

// steady says that it is, and has lived for a while.
func (m *Mover) steady(in *Input, id storage.ReplicaID) bool {
	since, ok := m.since[id]
	return id == in.Self || ok && m.fresh(in, id) && in.Now-since >= m.cfg.Steady
}
