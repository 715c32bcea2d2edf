package meta

import (
	"errors"
	"fmt"
	"slices"
)

var (
	// ErrNotMade refuses a command before the cluster is made.
	ErrNotMade = errors.New("the cluster is not made yet")
	// ErrMade refuses to make a cluster a second time, as another one.
	ErrMade = errors.New("the cluster is made already")
	// ErrCopy refuses a node whose boot counter was used before: its data
	// folder is a copy, or was put back from an old backup.
	ErrCopy = errors.New("data folder is a copy or was rolled back")
	// ErrTooMany refuses what would exceed a limit.
	ErrTooMany = errors.New("too many")
)

// Result is what a command came to. Err is a refusal, which is a result like
// any other: all replicas refuse alike.
type Result struct {
	Err   error
	Epoch uint64
	Group Group
}

// Outcome is a result with what becomes of the state.
type Outcome struct {
	View    *View
	Records []Record
	Result  Result
}

// Apply computes what c does to v. epoch gives the epoch that a producer's
// name has, 0 if it has none. Apply is pure; an error comes from epoch alone.
func Apply(v *View, c Command, epoch func(name string) (uint64, error)) (Outcome, error) {
	if err := c.validate(); err != nil {
		return refused(v, err), nil
	}
	if init, ok := c.(*Init); ok {
		return applyInit(v, init), nil
	}
	if !v.Made() {
		return refused(v, ErrNotMade), nil
	}
	switch c := c.(type) {
	case *StartNode:
		return applyStart(v, c), nil
	case *EnsureGroup:
		return applyGroup(v, c), nil
	case *OpenProducer:
		last, err := epoch(c.Name)
		if err != nil {
			return Outcome{}, err
		}
		return applyProducer(v, c.Name, last+1), nil
	default:
		return Outcome{}, fmt.Errorf("%w: %T", ErrCommand, c)
	}
}

func refused(v *View, err error) Outcome { return Outcome{View: v, Result: Result{Err: err}} }

func applyInit(v *View, c *Init) Outcome {
	if v.Made() {
		if v.Cluster.ID != c.Cluster {
			return refused(v, fmt.Errorf("%w: as %s", ErrMade, v.Cluster.ID))
		}
		return Outcome{View: v}
	}
	next := &View{
		Cluster: Cluster{
			ID: c.Cluster, Name: c.Name, Partitions: c.Partitions, HashSeed: c.HashSeed,
			FeatureLevel: c.FeatureLevel, NextReplica: FirstReplica, NextGroup: 1,
		},
		Nodes: []Node{c.Node},
	}
	var records []Record
	for g := MetaGroup; g <= PartitionGroup(c.Partitions-1); g++ {
		r := Replica{ID: next.Cluster.NextReplica, Group: g, Node: c.Node.ID}
		next.Cluster.NextReplica++
		next.Replicas = append(next.Replicas, r)
		records = append(records, replicaRecord(r))
	}
	records = append(records, clusterRecord(next.Cluster), nodeRecord(c.Node))
	return Outcome{View: next, Records: records}
}

// applyStart records a start. The same start may be reported twice; another
// one under a counter that is not higher comes from a folder that branched off.
func applyStart(v *View, c *StartNode) Outcome {
	old, known := v.Node(c.Node.ID)
	switch {
	case known && old.Boot == c.Node.Boot && old.Life == c.Node.Life:
		return Outcome{View: v}
	case known && c.Node.Boot <= old.Boot:
		return refused(v, fmt.Errorf("%w: node %s starts for the %d. time, but %d starts are recorded",
			ErrCopy, c.Node.ID, c.Node.Boot, old.Boot))
	}
	return Outcome{View: v.withNode(c.Node), Records: []Record{nodeRecord(c.Node)}}
}

func applyProducer(v *View, name string, epoch uint64) Outcome {
	out := Outcome{View: v, Records: []Record{producerRecord(name, epoch)}, Result: Result{Epoch: epoch}}
	if epoch > 1 {
		return out
	}
	if v.Cluster.Producers >= MaxProducers {
		return refused(v, fmt.Errorf("%w producers: %d", ErrTooMany, MaxProducers))
	}
	next := *v
	next.Cluster.Producers++
	out.View, out.Records = &next, append(out.Records, clusterRecord(next.Cluster))
	return out
}

func applyGroup(v *View, c *EnsureGroup) Outcome {
	if g, ok := v.Group(c.Name); ok {
		return Outcome{View: v, Result: Result{Group: g}}
	}
	if len(v.Groups) >= MaxGroups {
		return refused(v, fmt.Errorf("%w groups: %d", ErrTooMany, MaxGroups))
	}
	g := Group{ID: v.Cluster.NextGroup, Name: c.Name, Version: 1, Settings: slices.Clone(c.Settings)}
	next := *v
	next.Cluster.NextGroup++
	next.Groups = append(slices.Clone(v.Groups), g)
	return Outcome{
		View: &next, Records: []Record{groupRecord(g), clusterRecord(next.Cluster)}, Result: Result{Group: g},
	}
}
