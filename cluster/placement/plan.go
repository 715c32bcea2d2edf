package placement

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// node is a member with what the caller knows of it.
type node struct {
	meta.Node
	lost, unfit bool
	// load is how many partitions' replicas it was given so far.
	load int
}

// stands says that the node may be given replicas.
func (n *node) stands() bool { return n.State == meta.NodeActive && !n.lost }

// plan is the work on one step.
type plan struct {
	view        *meta.View
	nodes       []*node // the oldest first
	replication int
	maxMoves    int
	// asked is how many nodes nobody asked to go, lost ones too; standing are
	// those of them that may be given replicas.
	asked    int
	standing []*node
	capacity int

	moving  int
	blocked []Reason
}

func newPlan(in Input) *plan {
	p := &plan{view: in.View, replication: max(1, in.Replication), maxMoves: max(1, in.MaxMoves)}
	for _, n := range in.View.Nodes {
		p.nodes = append(p.nodes, &node{
			Node: n, lost: slices.Contains(in.Lost, n.ID), unfit: slices.Contains(in.Unfit, n.ID),
		})
	}
	slices.SortFunc(p.nodes, byAge)
	for _, n := range p.nodes {
		if n.State == meta.NodeActive {
			p.asked++
		}
		if n.stands() {
			p.standing = append(p.standing, n)
		}
	}
	if len(p.standing) > 0 {
		replicas := int(p.view.Cluster.Partitions) * min(p.replication, len(p.standing))
		p.capacity = (replicas+len(p.standing)-1)/len(p.standing) + 1
	}
	return p
}

// byAge has the oldest member first.
func byAge(a, b *node) int {
	return cmp.Or(cmp.Compare(a.JoinedMs, b.JoinedMs), bytes.Compare(a.ID[:], b.ID[:]))
}

func (p *plan) node(id identity.NodeID) *node {
	i := slices.IndexFunc(p.nodes, func(n *node) bool { return n.ID == id })
	if i < 0 {
		// Meta places on known nodes only; one that it forgot is gone for good.
		return &node{Node: meta.Node{ID: id, Name: id.String(), State: meta.NodeRemoved}}
	}
	return p.nodes[i]
}

func (p *plan) block(g storage.GroupID, n *node, why string) {
	p.blocked = append(p.blocked, Reason{Group: g, Node: n.ID, Text: fmt.Sprintf("%s: node %s %s", groupName(g), n.Name, why)})
}

func groupName(g storage.GroupID) string {
	if g == meta.MetaGroup {
		return "meta"
	}
	return fmt.Sprintf("partition %d", g-1)
}

// describe says what a group gains and loses.
func (p *plan) describe(t *target) string {
	var b strings.Builder
	b.WriteString(groupName(t.group))
	for _, w := range t.wish {
		i := slices.IndexFunc(t.current, func(r meta.Replica) bool { return r.ID == w.Replica })
		switch {
		case i < 0:
			fmt.Fprintf(&b, " +%s", p.node(w.Node).Name)
		case t.current[i].Role != w.Role:
			fmt.Fprintf(&b, " %s=%s", p.node(w.Node).Name, w.Role)
		}
	}
	for _, r := range t.current {
		if !slices.ContainsFunc(t.wish, func(w meta.ReplicaWish) bool { return w.Replica == r.ID }) {
			fmt.Fprintf(&b, " -%s", p.node(r.Node).Name)
		}
	}
	return b.String()
}

// maxWhy is how long a reason may be, with room for what is left out.
const maxWhy = 200

func join(parts []string) string {
	out := ""
	for i, s := range parts {
		if i > 0 {
			s = "; " + s
		}
		if len(out)+len(s) > maxWhy {
			if rest := len(parts) - i; i > 0 {
				return fmt.Sprintf("%s; and %d more", out, rest)
			}
			return strings.ToValidUTF8(s[:maxWhy], "")
		}
		out += s
	}
	return out
}
