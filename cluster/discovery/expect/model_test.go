package expect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
)

// The model: nodes 1 to k that expect three. Messages, once sent, may be
// delivered at any time, any number of times, or never; a node may see any view
// of gossip that holds itself; it may crash before its record is durable, after
// that and before anything is sent, and before what it is to make is there.
// Every state that can be reached with a few crashes is looked at once.

type modelNode struct {
	e       *Machine
	record  *Proposal // durable
	joined  meta.ClusterID
	pending *Proposal // told to make, and not there yet
}

type model struct {
	nodes   []modelNode
	net     map[string]Message // all that was ever sent
	made    []meta.ClusterID
	crashes int
}

const expected = 3

func nodeID(i int) identity.NodeID { return identity.NodeID{byte(i + 1)} }

func newModel(k, crashes int) *model {
	m := &model{nodes: make([]modelNode, k), net: map[string]Message{}, crashes: crashes}
	for i := range m.nodes {
		m.nodes[i].e = New(nodeID(i), expected, nil)
	}
	return m
}

func (m *model) clone() *model {
	c := &model{nodes: slices.Clone(m.nodes), net: maps.Clone(m.net), made: slices.Clone(m.made), crashes: m.crashes}
	for i := range c.nodes {
		e := *c.nodes[i].e
		e.got = maps.Clone(e.got)
		c.nodes[i].e = &e
	}
	return c
}

// fault is where a node crashes while it carries effects out.
type fault int

const (
	whole fault = iota
	beforeRecord
	afterRecord
	beforeMake
)

func (m *model) carryOut(i int, out Effects, f fault) {
	n := &m.nodes[i]
	if f == beforeRecord {
		m.crash(i)
		return
	}
	if out.Record != nil {
		n.record = out.Record
	}
	if f == afterRecord {
		m.crash(i)
		return
	}
	for _, msg := range out.Send {
		m.net[string(msg.Encode())] = msg
	}
	if out.Make != nil {
		n.pending = out.Make
	}
	if f == beforeMake {
		m.crash(i)
		return
	}
	if n.pending != nil {
		n.joined, n.pending = n.pending.Cluster, nil
		if !slices.Contains(m.made, n.joined) {
			m.made = append(m.made, n.joined)
		}
	}
	if !out.Join.IsZero() {
		n.joined = out.Join
	}
}

func (m *model) crash(i int) {
	m.crashes--
	n := &m.nodes[i]
	n.pending = nil
	n.e = New(nodeID(i), expected, n.record)
}

// key is equal for states that go on alike.
func (m *model) key() string {
	var b bytes.Buffer
	for i := range m.nodes {
		n := &m.nodes[i]
		writeProposal(&b, n.record)
		writeProposal(&b, n.e.current)
		for j := range m.nodes {
			b.WriteByte(map[bool]byte{true: 1}[n.e.got[nodeID(j)]])
		}
		b.WriteByte(map[bool]byte{true: 1}[n.e.err != nil])
		b.WriteByte(map[bool]byte{true: 1}[n.e.made])
		b.Write(n.joined[:4])
	}
	for _, k := range slices.Sorted(maps.Keys(m.net)) {
		b.WriteString(k)
	}
	for _, c := range m.made {
		b.Write(c[:4])
	}
	return string(binary.BigEndian.AppendUint16(b.Bytes(), uint16(m.crashes)))
}

func writeProposal(b *bytes.Buffer, p *Proposal) {
	if p == nil {
		b.WriteByte(0)
		return
	}
	b.WriteByte(1)
	for _, n := range p.Members {
		b.WriteByte(n[0])
	}
}

// views are the ones that node i may have: any set of candidates of the expected
// size that holds itself, all of them, or those with what was made.
func (m *model) views(i int) []View {
	var all []identity.NodeID
	for j := range m.nodes {
		all = append(all, nodeID(j))
	}
	out := []View{{Candidates: all}}
	for skip := range all {
		if skip == i || len(all) == expected {
			continue
		}
		rest := slices.Clone(all)
		out = append(out, View{Candidates: slices.Delete(rest, skip, skip+1)})
	}
	if len(m.made) > 0 {
		out = append(out, View{Candidates: all, Made: m.made})
	}
	return out
}

// next lists every state that may follow.
func (m *model) next(visit func(*model, string)) {
	for i := range m.nodes {
		if !m.nodes[i].joined.IsZero() {
			continue // it has a cluster: it asks and answers no more
		}
		var inputs []func(*Machine) Effects
		for _, v := range m.views(i) {
			inputs = append(inputs, func(e *Machine) Effects { return e.See(v) })
		}
		inputs = append(inputs, (*Machine).Tick)
		for _, msg := range m.net {
			if msg.To == nodeID(i) {
				inputs = append(inputs, func(e *Machine) Effects { return e.Step(msg) })
			}
		}
		for _, input := range inputs {
			for _, f := range []fault{whole, beforeRecord, afterRecord, beforeMake} {
				if f != whole && m.crashes == 0 {
					continue
				}
				c := m.clone()
				c.carryOut(i, input(c.nodes[i].e), f)
				visit(c, fmt.Sprintf("node %d, fault %d", i+1, f))
			}
		}
	}
}

// explore visits every reachable state, and returns how many there are.
func explore(t *testing.T, first *model, check func(*model) error) int {
	t.Helper()
	seen := map[string]bool{first.key(): true}
	queue := []*model{first}
	for count := 0; len(queue) > 0; count++ {
		m := queue[0]
		queue = queue[1:]
		if err := check(m); err != nil {
			t.Fatalf("state %d: %v\n%s", count, err, m.describe())
		}
		m.next(func(c *model, _ string) {
			if k := c.key(); !seen[k] {
				seen[k] = true
				queue = append(queue, c)
			}
		})
	}
	return len(seen)
}

func (m *model) describe() string {
	var b strings.Builder
	for i, n := range m.nodes {
		fmt.Fprintf(&b, "node %d: record %v current %v got %v err %v joined %v\n", i+1, n.record, n.e.current, n.e.got, n.e.err, n.joined)
	}
	return b.String()
}

// oneCluster is what must hold always: never two, and none without all promises.
func oneCluster(m *model) error {
	if len(m.made) > 1 {
		return errors.New("two clusters were made")
	}
	for _, c := range m.made {
		promised := 0
		for _, n := range m.nodes {
			if n.record != nil && n.record.Cluster == c {
				promised++
			}
		}
		if promised != expected {
			return fmt.Errorf("made with %d promises", promised)
		}
	}
	for i, n := range m.nodes {
		if n.record != nil && !n.record.has(nodeID(i)) {
			return fmt.Errorf("node %d promised without being named", i+1)
		}
	}
	return nil
}

// finish lets a network without faults run, and says whether all got there.
func (m *model) finish() error {
	c := m.clone()
	c.crashes = 0
	for range 20 {
		for i := range c.nodes {
			if !c.nodes[i].joined.IsZero() {
				continue
			}
			views := c.views(i)
			c.carryOut(i, c.nodes[i].e.See(views[len(views)-1]), whole)
			c.carryOut(i, c.nodes[i].e.Tick(), whole)
			for _, k := range slices.Sorted(maps.Keys(c.net)) {
				if msg := c.net[k]; msg.To == nodeID(i) && c.nodes[i].joined.IsZero() {
					c.carryOut(i, c.nodes[i].e.Step(msg), whole)
				}
			}
		}
	}
	for i, n := range c.nodes {
		if n.e.err != nil {
			return fmt.Errorf("node %d gave up: %w", i+1, n.e.err)
		}
		if n.joined.IsZero() {
			return fmt.Errorf("node %d has no cluster: %s", i+1, n.e.Status())
		}
	}
	return nil
}

// Three nodes come to one cluster from wherever crashes and losses have led them.
func TestThreeAlwaysAgree(t *testing.T) {
	states := explore(t, newModel(3, 4), func(m *model) error {
		return errors.Join(oneCluster(m), m.finish())
	})
	if states < 100 {
		t.Fatalf("only %d states: the model does not move", states)
	}
	t.Log(states, "states")
}

// Four nodes that expect three, each seeing any three or all four: two makers.
// There may be none, but never two.
func TestFourNeverMakeTwo(t *testing.T) {
	made, stuck, crashes := 0, 0, 1
	if testing.Short() {
		crashes = 0
	}
	states := explore(t, newModel(4, crashes), func(m *model) error {
		made += len(m.made)
		for _, n := range m.nodes {
			if n.e.err != nil {
				stuck++
				if !errors.Is(n.e.err, ErrApart) || !strings.Contains(n.e.err.Error(), "--join") {
					return n.e.err
				}
				break
			}
		}
		return oneCluster(m)
	})
	if made == 0 || stuck == 0 {
		t.Fatalf("%d states, made in %d, apart in %d: the model does not come to it", states, made, stuck)
	}
	t.Log(states, "states")
}

// The exploration must notice a node that promises twice.
func TestModelFindsASecondPromise(t *testing.T) {
	found := false
	m := newModel(4, 0)
	seen, queue := map[string]bool{m.key(): true}, []*model{m}
	for len(queue) > 0 && !found {
		m := queue[0]
		queue = queue[1:]
		m.next(func(c *model, _ string) {
			for i := range c.nodes {
				c.nodes[i].e.record = nil // a promise that is forgotten
			}
			found = found || oneCluster(c) != nil
			if k := c.key(); !seen[k] {
				seen[k] = true
				queue = append(queue, c)
			}
		})
	}
	if !found {
		t.Fatal("nothing was noticed")
	}
}

func TestExpectOneMakesAtOnce(t *testing.T) {
	self := nodeID(0)
	out := New(self, 1, nil).See(View{Candidates: []identity.NodeID{self}})
	if out.Make == nil || out.Record == nil || !out.Make.Equal(ProposalOf([]identity.NodeID{self})) {
		t.Fatalf("%+v", out)
	}
}

func TestExpectStatus(t *testing.T) {
	three := []identity.NodeID{nodeID(0), nodeID(1), nodeID(2)}
	p := ProposalOf(three)
	e := New(nodeID(0), 3, nil)
	want := func(text string) {
		t.Helper()
		if !strings.Contains(e.Status(), text) {
			t.Errorf("%q, want %q in it", e.Status(), text)
		}
	}
	e.See(View{Candidates: three[:2]})
	want("2 of 3")
	e.See(View{Candidates: append(slices.Clone(three), nodeID(3))})
	want("too many")
	e.See(View{Candidates: three})
	want("waiting for the promise of [" + nodeID(1).String() + " " + nodeID(2).String() + "]")
	e = New(nodeID(1), 3, &p)
	want("waiting until node " + nodeID(0).String())
	if out := e.See(View{Made: []meta.ClusterID{{9}}}); !errors.Is(out.Err, ErrApart) {
		t.Errorf("another cluster than the promised one: %+v", out)
	}
	want("apart")
	if out := New(nodeID(1), 3, nil).See(View{Made: []meta.ClusterID{{9}}}); out.Join != (meta.ClusterID{9}) {
		t.Errorf("a late node does not join: %+v", out)
	}
	if out := New(nodeID(1), 3, nil).See(View{Made: []meta.ClusterID{{9}, {8}}}); !errors.Is(out.Err, ErrApart) {
		t.Errorf("two clusters: %+v", out)
	}
}
