// Package expect is --bootstrap-expect: N nodes that know each other by gossip
// and make one cluster. It is a state machine without clock, goroutine or IO.
//
// In: what gossip shows (See), messages of the other nodes (Step), and a tick now
// and then (Tick). Out: Effects, which the caller carries out in their order; a
// promise must be on disk before anything after it is sent or made.
//
// Each node promises once to one cluster id and one list of members. The member
// with the smallest id asks the others, and makes the cluster when all of them
// and itself have promised. The others join it when gossip shows it.
package expect

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
)

// Proposal is a cluster that its members are to make: its id, and who they are.
// The first of the members, which has the smallest id, makes it.
//
// The id follows from the members, whose ids are random. Were it drawn, then a
// maker that dies half way would come back with another proposal for the same
// nodes, and find some promised to the first one and some to the second.
type Proposal struct {
	Cluster meta.ClusterID
	Members []identity.NodeID // ascending
}

// ProposalOf returns the one proposal that there is for these nodes.
func ProposalOf(members []identity.NodeID) Proposal {
	p := Proposal{Members: slices.SortedFunc(slices.Values(members), compareNodes)}
	p.Cluster = p.id()
	return p
}

func (p Proposal) id() (c meta.ClusterID) {
	h := sha256.New()
	h.Write([]byte("waystation cluster of"))
	for _, n := range p.Members {
		h.Write(n[:])
	}
	copy(c[:], h.Sum(nil))
	return c
}

// Equal says that p and q are the same.
func (p Proposal) Equal(q Proposal) bool {
	return p.Cluster == q.Cluster && slices.Equal(p.Members, q.Members)
}

func (p Proposal) has(n identity.NodeID) bool { return slices.Contains(p.Members, n) }

func (p Proposal) maker() identity.NodeID { return p.Members[0] }

func (p Proposal) valid() bool {
	if len(p.Members) == 0 || p.Members[0].IsZero() || p.Cluster != p.id() {
		return false
	}
	for i := range p.Members[1:] {
		if compareNodes(p.Members[i], p.Members[i+1]) >= 0 {
			return false
		}
	}
	return true
}

func compareNodes(a, b identity.NodeID) int { return bytes.Compare(a[:], b[:]) }

// ErrApart says that nodes which were to make one cluster have promised
// themselves to different ones.
var ErrApart = errors.New("nodes bootstrapped apart")

// Kind is what a message says.
type Kind uint8

// The messages. Propose goes from the maker to the other members; the others
// answer it.
const (
	// Propose asks for a promise to the proposal.
	Propose Kind = iota + 1
	// Promise says that the sender has promised itself to the proposal.
	Promise
	// Promised says that the sender had promised itself to this proposal, and not
	// to the one that it was asked for.
	Promised
)

// Message is what nodes say to each other. Any may be lost, repeated, late or
// overtaken.
type Message struct {
	Kind     Kind
	From, To identity.NodeID
	Proposal Proposal
}

// View is what gossip shows.
type View struct {
	// Candidates are the nodes that expect as many as this one and belong to no
	// cluster; this one too.
	Candidates []identity.NodeID
	// Made are the clusters that members belong to.
	Made []meta.ClusterID
}

// Effects is what the caller is to do, in the order of the fields: nothing may be
// sent or made before Record is on disk.
type Effects struct {
	// Record is the promise to make durable, or nil.
	Record *Proposal
	// Send are messages to send; losing them is no harm.
	Send []Message
	// Make is the cluster to make on this node. It may be asked for again after
	// a crash, with the same id.
	Make *Proposal
	// Join is the cluster to join, or zero.
	Join meta.ClusterID
	// Err says that the nodes cannot agree (ErrApart). It stays.
	Err error
}

// Machine is one node of those. One goroutine at a time.
//
// Why there are never two clusters whose members overlap: a cluster is made only
// by its maker and only with the promises of all members, each on disk. Who is in
// both lists has promised itself to one of them, once.
//
// N nodes always come to one: there is a single proposal for them, and asking
// again is no harm. With more than N nodes, two lists may each have a promise,
// or a list a member that is gone for good; then nothing is made, and a person
// must choose. The maker's own promise comes last, so that until then it can
// take up a list of its earlier life, or leave the matter to another maker.
type Machine struct {
	self identity.NodeID
	n    int

	record  *Proposal                // what this node has promised, durable
	current *Proposal                // what it proposes as maker
	got     map[identity.NodeID]bool // promises to current
	view    View
	made    bool // Make or Join was given out
	err     error
}

// New begins a life of the node. n is the number of nodes, record the
// promise that an earlier life has left, or nil.
func New(self identity.NodeID, n int, record *Proposal) *Machine {
	e := &Machine{self: self, n: n, record: record}
	if record != nil && record.maker() == self {
		e.propose(*record)
	}
	return e
}

func (e *Machine) propose(p Proposal) {
	e.current = &p
	e.got = map[identity.NodeID]bool{}
}

// See takes what gossip shows now.
func (e *Machine) See(v View) Effects {
	e.view = v
	if e.err != nil || e.made {
		return Effects{Err: e.err}
	}
	if len(v.Made) > 0 {
		return e.seeMade(v.Made)
	}
	if e.record != nil || e.current != nil || len(v.Candidates) != e.n || !slices.Contains(v.Candidates, e.self) {
		return Effects{}
	}
	p := ProposalOf(v.Candidates)
	if p.maker() != e.self || !p.valid() {
		return Effects{}
	}
	e.propose(p)
	return e.advance()
}

// seeMade joins what was made, which must be what this node has promised.
func (e *Machine) seeMade(made []meta.ClusterID) Effects {
	if e.record != nil {
		if slices.Contains(made, e.record.Cluster) {
			return e.join(e.record.Cluster)
		}
		return e.fail("this node has promised to make cluster %s with %s, and there is cluster %s",
			e.record.Cluster, nodes(e.record.Members), made[0])
	}
	for _, m := range made[1:] {
		if m != made[0] {
			return e.fail("there are clusters %s and %s under this name", made[0], m)
		}
	}
	return e.join(made[0])
}

func (e *Machine) join(c meta.ClusterID) Effects {
	e.made = true
	return Effects{Join: c}
}

func (e *Machine) fail(format string, args ...any) Effects {
	e.err = fmt.Errorf("%w: %s; if none of these nodes has data yet, stop them all, clear their data folders and start %d of them; otherwise join the one cluster with --join",
		ErrApart, fmt.Sprintf(format, args...), e.n)
	return Effects{Err: e.err}
}

// Tick sends again what was not answered.
func (e *Machine) Tick() Effects {
	if e.err != nil || e.made || e.current == nil {
		return Effects{Err: e.err}
	}
	return e.advance()
}

// Step takes a message. One that is not for this node, or that cannot be, is
// ignored. It may be called after the cluster was made: those who ask learn that
// it was.
func (e *Machine) Step(m Message) Effects {
	if m.To != e.self || m.From == e.self || !m.Proposal.valid() {
		return Effects{Err: e.err}
	}
	switch m.Kind {
	case Propose:
		return e.stepPropose(m)
	case Promise:
		if e.live() && m.Proposal.Equal(*e.current) && m.Proposal.has(m.From) {
			e.got[m.From] = true
			return e.advance()
		}
	case Promised:
		if e.live() && m.Proposal.has(m.From) {
			return e.stepPromised(m)
		}
	}
	return Effects{Err: e.err}
}

// live says that this node is a maker that still waits.
func (e *Machine) live() bool { return e.err == nil && !e.made && e.current != nil }

func (e *Machine) stepPropose(m Message) Effects {
	p := m.Proposal
	if p.maker() != m.From || !p.has(e.self) || len(p.Members) != e.n {
		return Effects{Err: e.err}
	}
	reply := Message{Kind: Promise, From: e.self, To: m.From, Proposal: p}
	switch {
	case e.record != nil && e.record.Equal(p):
		return Effects{Send: []Message{reply}, Err: e.err}
	case e.record != nil:
		reply.Kind, reply.Proposal = Promised, *e.record
		return Effects{Send: []Message{reply}, Err: e.err}
	case e.err != nil || e.made || e.current != nil:
		// A maker that still waits for its own list takes no part in another one;
		// nor does who has joined a cluster.
		return Effects{Err: e.err}
	}
	e.record = &p
	return Effects{Record: &p, Send: []Message{reply}}
}

// stepPromised hears that somebody has promised itself elsewhere.
func (e *Machine) stepPromised(m Message) Effects {
	q := m.Proposal
	switch {
	case q.Equal(*e.current):
		return Effects{} // an answer to an earlier life's question
	case !q.has(e.self) || len(q.Members) != e.n:
		return e.fail("node %s has promised to make cluster %s with %s, without this node", m.From, q.Cluster, nodes(q.Members))
	case e.record != nil || len(e.got) > 0:
		return e.fail("node %s has promised to make cluster %s with %s, and others another one, %s with %s",
			m.From, q.Cluster, nodes(q.Members), e.current.Cluster, nodes(e.current.Members))
	case q.maker() == e.self: // an earlier life of this node proposed it
		e.propose(q)
		e.got[m.From] = true
		return e.advance()
	}
	e.current, e.got = nil, nil // somebody else makes it, and will ask
	return Effects{}
}

// advance makes the cluster if all have promised, and asks who has not.
func (e *Machine) advance() Effects {
	p := *e.current
	var out Effects
	for _, n := range p.Members {
		if n != e.self && !e.got[n] {
			out.Send = append(out.Send, Message{Kind: Propose, From: e.self, To: n, Proposal: p})
		}
	}
	if len(out.Send) > 0 {
		return out
	}
	if e.record == nil {
		e.record, out.Record = &p, &p
	}
	e.made = true
	out.Make = &p
	return out
}

// Status says in words what the node waits for.
func (e *Machine) Status() string {
	switch {
	case e.err != nil:
		return e.err.Error()
	case e.made:
		return "there is a cluster"
	case e.current != nil:
		var missing []identity.NodeID
		for _, n := range e.current.Members {
			if n != e.self && !e.got[n] {
				missing = append(missing, n)
			}
		}
		return "waiting for the promise of " + nodes(missing)
	case e.record != nil:
		return fmt.Sprintf("waiting until node %s makes cluster %s", e.record.maker(), e.record.Cluster)
	case len(e.view.Candidates) > e.n:
		return fmt.Sprintf("%d nodes were started with --bootstrap-expect %d: %s; stop those that are too many",
			len(e.view.Candidates), e.n, nodes(e.view.Candidates))
	}
	return fmt.Sprintf("waiting for nodes: %d of %d are there", len(e.view.Candidates), e.n)
}

func nodes(list []identity.NodeID) string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = n.String()
	}
	return "[" + strings.Join(out, " ") + "]"
}
