package mover

import (
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/replica"
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

// Input is a group as its leader sees it. Nothing of it is kept or changed.
type Input struct {
	Group storage.GroupID
	// View is meta's state as this node has it.
	View *meta.View
	// Self is the leading replica, Term the term that it leads in. The first entry
	// of Term must be applied: before, Conf may lack what an earlier leader changed.
	Self storage.ReplicaID
	Term uint64
	// Conf is the configuration that it has applied.
	Conf replica.Conf
	// Commit is the commit index.
	Commit uint64
	// Progress is what the leader knows of the other replicas.
	Progress []replica.Progress
	// LogBytes, if there is one, says how much of the log comes behind an index.
	LogBytes func(index uint64) int64
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
	// None says that the group is as it should be.
	None Kind = iota
	// Wait says that it is not, and that nothing can be done now.
	Wait
	// Report has Step.Report proposed to meta.
	Report
	// Change has Step.Change proposed to the group, in Input.Term.
	Change
	// Transfer has the leadership handed to Step.To.
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

// Outcome is what became of a step.
type Outcome int

const (
	// Made says that it was done; a change is applied, or about to be.
	Made Outcome = iota
	// NotMade says that nothing was done, nor ever will be.
	NotMade
	// Unknown says that it may still be done.
	Unknown
)

// Mover plans the steps of one group. It is not safe for concurrent use. One
// Mover must plan all steps of a term.
type Mover struct {
	cfg  Config
	term uint64
	// seen is when a replica was last active, since when it has lived without a
	// break.
	seen, since map[storage.ReplicaID]time.Duration

	// doing is the step under way. A change that was made is so until it is seen
	// in the configuration, which was before.
	doing  Kind
	made   bool
	before replica.Conf
	// reported is the report that meta took last, at reportedAt.
	reported   *meta.ReportGroup
	reportedAt time.Duration

	tried      time.Duration
	hasTried   bool
	jointSince time.Duration
	joint      bool
}

// New returns a Mover that has seen nothing yet.
func New(c Config) *Mover { return &Mover{cfg: c} }

// Plan returns the next step. It is called only while this replica leads; it
// notices a new term by itself. After a step that is to be carried out, it
// returns Wait until Done was called.
func (m *Mover) Plan(in Input) Step {
	m.look(&in)
	if len(in.View.Wish(in.Group)) == 0 {
		return Step{Kind: None}
	}
	g := m.group(&in)
	if m.busy(&in) {
		return Step{Kind: Wait, Waits: []string{g.name() + ": a step is under way"}}
	}
	if joint := in.Conf.Joint(); joint != m.joint {
		m.joint, m.jointSince = joint, in.Now
	}
	step := g.step()
	step.Waits = g.waits
	if step.Kind == None && len(g.waits) > 0 {
		step.Kind = Wait
	}
	m.begin(&in, &step)
	return step
}

func (m *Mover) begin(in *Input, s *Step) {
	switch s.Kind {
	case Report:
		m.reported, m.reportedAt = s.Report, in.Now
	case Change:
		m.before = in.Conf
	case Transfer:
		m.tried, m.hasTried = in.Now, true
	default:
		return
	}
	m.doing, m.made = s.Kind, false
}

// Done says what became of the step that Plan returned last, in that term. It
// is called once for each, however long it takes: a change whose outcome is not
// known may still be made by the next leader, so that this one may never again
// say in its term who the members are.
func (m *Mover) Done(term uint64, o Outcome) {
	switch {
	case term != m.term || m.doing == None:
	case m.doing == Change && o == Made:
		m.made = true
	case m.doing == Change && o == Unknown:
		// Until the next term.
	default:
		if m.doing == Report && o != Made {
			m.reported = nil
		}
		m.doing = None
	}
}

// busy says that a step is under way.
func (m *Mover) busy(in *Input) bool {
	if m.doing == Change && m.made && !in.Conf.Equal(m.before) {
		m.doing = None
	}
	return m.doing != None
}

// look notes who is active.
func (m *Mover) look(in *Input) {
	if in.Term != m.term || m.seen == nil {
		m.term = in.Term
		m.seen, m.since = map[storage.ReplicaID]time.Duration{}, map[storage.ReplicaID]time.Duration{}
		m.hasTried, m.joint, m.doing, m.reported = false, false, None, nil
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
		if !slices.ContainsFunc(in.Progress, func(p replica.Progress) bool { return p.Replica == id }) {
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
