package meta

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/waystation/waystation/storage"
)

// change collects what a command does: a view of its own, made by copying what
// is touched, and the records.
type change struct {
	next    View
	atMs    int64
	records []Record
	owned   struct{ nodes, replicas, placements, operations bool }
}

func begin(v *View, at At) *change { return &change{next: *v, atMs: at.TimeMs} }

func (c *change) done(r Result) Outcome {
	if len(c.records) == 0 {
		panic("meta: a change without a record")
	}
	return Outcome{View: &c.next, Records: c.records, Result: r}
}

func (c *change) record(r Record) { c.records = append(c.records, r) }

func (c *change) putNode(n Node) {
	own(&c.next.Nodes, &c.owned.nodes)
	put(&c.next.Nodes, n, func(a, b Node) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	c.record(nodeRecord(n))
}

func (c *change) dropNode(n Node) {
	own(&c.next.Nodes, &c.owned.nodes)
	if i, ok := c.next.findNode(n.ID); ok {
		c.next.Nodes = slices.Delete(c.next.Nodes, i, i+1)
	}
	c.record(Record{Key: nodeRecord(n).Key})
}

func (c *change) putReplica(r Replica) {
	own(&c.next.Replicas, &c.owned.replicas)
	put(&c.next.Replicas, r, compareReplicas)
	c.record(replicaRecord(r))
}

func (c *change) dropReplica(r Replica) {
	own(&c.next.Replicas, &c.owned.replicas)
	if i, ok := c.next.findReplica(r.Group, r.ID); ok {
		c.next.Replicas = slices.Delete(c.next.Replicas, i, i+1)
	}
	c.record(Record{Key: replicaKey(r.ID)})
}

// newReplica gives out an id. The caller writes the cluster's record.
func (c *change) newReplica(r Replica) storage.ReplicaID {
	r.ID, r.State = c.next.Cluster.NextReplica, ReplicaWanted
	c.next.Cluster.NextReplica++
	c.putReplica(r)
	return r.ID
}

func (c *change) putPlacement(p Placement) {
	own(&c.next.Placements, &c.owned.placements)
	put(&c.next.Placements, p, func(a, b Placement) int { return cmp.Compare(a.Group, b.Group) })
	c.record(placementRecord(p))
}

// wish says that the wish of group g is another one from this generation on.
func (c *change) wish(g storage.GroupID) {
	p, _ := c.next.Placement(g)
	p.Group, p.Version = g, c.next.Cluster.Generation
	c.putPlacement(p)
}

func (c *change) putCluster() { c.record(clusterRecord(c.next.Cluster)) }

// note adds to the log of operations.
func (c *change) note(format string, args ...any) {
	own(&c.next.Operations, &c.owned.operations)
	o := Operation{Seq: 1, TimeMs: c.atMs, Text: cut(fmt.Sprintf(format, args...), maxOperationText)}
	ops := c.next.Operations
	if len(ops) > 0 {
		o.Seq = ops[len(ops)-1].Seq + 1
	}
	if len(ops) >= MaxOperations {
		c.record(Record{Key: operationKey(ops[0].Seq)})
		ops = slices.Delete(ops, 0, 1)
	}
	c.next.Operations = append(ops, o)
	c.record(operationRecord(o))
}

// own makes a slice the change's, once.
func own[T any](s *[]T, owned *bool) {
	if !*owned {
		*s, *owned = slices.Clone(*s), true
	}
}

// put replaces or inserts x in a sorted slice.
func put[T any](s *[]T, x T, compare func(a, b T) int) {
	i, ok := slices.BinarySearchFunc(*s, x, compare)
	if ok {
		(*s)[i] = x
		return
	}
	*s = slices.Insert(*s, i, x)
}
