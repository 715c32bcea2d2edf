package meta

import (
	"fmt"
	"slices"

	"github.com/waystation/waystation/storage"
)

// Result is what a command came to. Err is a refusal, which is a result like
// any other: all replicas refuse alike.
type Result struct {
	Err error
	// Epoch is OpenProducer's.
	Epoch uint64
	// Replica is the replica of meta that JoinNode gave, or the successor that
	// ReplaceReplica made.
	Replica storage.ReplicaID
	// Group is EnsureGroup's and SetGroup's.
	Group Group
}

// Outcome is a result with what becomes of the state.
type Outcome struct {
	View    *View
	Records []Record
	Result  Result
}

// At is where and when a command is applied.
type At struct {
	// TimeMs is log time, milliseconds since the Unix epoch.
	TimeMs int64
}

// otherProducers is the name under which stands the epoch that all names without
// a record may have had: a cluster that went on from a copy may have lost theirs.
const otherProducers = ""

// Apply computes what c does to v. epoch gives the epoch that a producer's
// name has, 0 if it has none. Apply is pure; an error comes from epoch alone.
func Apply(v *View, c Command, at At, epoch func(name string) (uint64, error)) (Outcome, error) {
	if err := c.validate(); err != nil {
		return refused(v, err), nil
	}
	if init, ok := c.(*Init); ok {
		return applyInit(v, init, at), nil
	}
	if !v.Made() {
		return refused(v, ErrNotMade), nil
	}
	switch c := c.(type) {
	case *JoinNode:
		return applyJoin(v, c, at), nil
	case *StartNode:
		return applyStart(v, c, at), nil
	case *SetNodeState:
		return applyNodeState(v, c, at), nil
	case *SetMap:
		return applyMap(v, c, at), nil
	case *ReportGroup:
		return applyReport(v, c, at), nil
	case *ReplicaGone:
		return applyGone(v, c, at), nil
	case *ReplaceReplica:
		return applyReplace(v, c, at), nil
	case *RaiseFeature:
		return applyFeature(v, c, at), nil
	case *EnsureGroup:
		return applyGroup(v, c, at), nil
	case *SetGroup:
		return applySetGroup(v, c, at), nil
	case *DropGroup:
		return applyDropGroup(v, c, at), nil
	case *OpenProducer:
		last, err := epoch(c.Name)
		known := last > 0
		if err == nil && !known {
			last, err = epoch(otherProducers)
		}
		if err != nil {
			return Outcome{}, err
		}
		return applyProducer(v, c.Name, last+1, known), nil
	default:
		return Outcome{}, fmt.Errorf("%w: %T", ErrCommand, c)
	}
}

func refused(v *View, err error) Outcome { return Outcome{View: v, Result: Result{Err: err}} }

// unchanged is the outcome of what was done before.
func unchanged(v *View, r Result) Outcome { return Outcome{View: v, Result: r} }

func applyInit(v *View, c *Init, at At) Outcome {
	if v.Made() {
		if v.Cluster.ID != c.Cluster {
			return refused(v, fmt.Errorf("%w: as %s", ErrMade, v.Cluster.ID))
		}
		return unchanged(v, Result{})
	}
	ch := begin(v, at)
	ch.next.Cluster = Cluster{
		ID: c.Cluster, Name: c.Name, Partitions: c.Partitions, HashSeed: c.HashSeed,
		FeatureLevel: c.FeatureLevel, NextReplica: FirstReplica, NextGroup: 1, Generation: 1,
	}
	for g := MetaGroup; g <= PartitionGroup(c.Partitions-1); g++ {
		id := ch.newReplica(Replica{Group: g, Node: c.Node.ID, Role: Voter, Leader: true})
		ch.putPlacement(Placement{
			Group: g, Version: 1, Reported: 1, Settled: true, Voters: []storage.ReplicaID{id},
		})
	}
	n := c.Node
	n.State, n.JoinedMs, n.ChangedMs = NodeActive, at.TimeMs, at.TimeMs
	ch.putNode(n)
	ch.putCluster()
	ch.note("cluster %s made by node %s, %d partitions", c.Name, n.Name, c.Partitions)
	return ch.done(Result{})
}

func applyProducer(v *View, name string, epoch uint64, known bool) Outcome {
	out := Outcome{View: v, Records: []Record{producerRecord(name, epoch)}, Result: Result{Epoch: epoch}}
	if known {
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

func applyGroup(v *View, c *EnsureGroup, at At) Outcome {
	if g, ok := v.Group(c.Name); ok {
		return unchanged(v, Result{Group: g})
	}
	return makeGroup(v, c.Name, c.Settings, at)
}

func applySetGroup(v *View, c *SetGroup, at At) Outcome {
	g, ok := v.Group(c.Name)
	switch {
	case ok && g.Version == c.Version+1 && slices.Equal(g.Settings, c.Settings):
		return unchanged(v, Result{Group: g}) // it was proposed again
	case ok && c.Version == 0:
		return refused(v, fmt.Errorf("%w: %s", ErrGroupThere, c.Name))
	case !ok && c.Version != 0:
		return refused(v, fmt.Errorf("%w: %s", ErrNoGroup, c.Name))
	case !ok:
		return makeGroup(v, c.Name, c.Settings, at)
	case g.Version != c.Version:
		return refused(v, fmt.Errorf("%w: %s is at version %d, not %d", ErrGroupChanged, c.Name, g.Version, c.Version))
	}
	g.Version++
	g.Settings = slices.Clone(c.Settings)
	ch := begin(v, at)
	ch.next.Groups = slices.Clone(v.Groups)
	for i := range ch.next.Groups {
		if ch.next.Groups[i].ID == g.ID {
			ch.next.Groups[i] = g
		}
	}
	ch.record(groupRecord(g))
	ch.note("consumer group %s changed", c.Name)
	return ch.done(Result{Group: g})
}

func applyDropGroup(v *View, c *DropGroup, at At) Outcome {
	i := slices.IndexFunc(v.Groups, func(g Group) bool { return g.ID == c.ID })
	switch {
	case i < 0 && v.GroupDeleted(c.ID):
		return unchanged(v, Result{}) // it was proposed again
	case i < 0:
		return refused(v, fmt.Errorf("%w: number %d", ErrNoGroup, c.ID))
	}
	ch := begin(v, at)
	g := v.Groups[i]
	ch.next.Groups = slices.Delete(slices.Clone(v.Groups), i, i+1)
	ch.record(Record{Key: groupRecord(g).Key})
	ch.note("consumer group %s deleted", g.Name)
	return ch.done(Result{Group: g})
}

func makeGroup(v *View, name string, settings []byte, at At) Outcome {
	if len(v.Groups) >= MaxGroups {
		return refused(v, fmt.Errorf("%w groups: %d", ErrTooMany, MaxGroups))
	}
	g := Group{ID: v.Cluster.NextGroup, Name: name, Version: 1, Settings: slices.Clone(settings)}
	ch := begin(v, at)
	ch.next.Cluster.NextGroup++
	ch.next.Groups = append(slices.Clone(v.Groups), g)
	ch.record(groupRecord(g))
	ch.putCluster()
	ch.note("consumer group %s made", name)
	return ch.done(Result{Group: g})
}

func applyFeature(v *View, c *RaiseFeature, at At) Outcome {
	if c.Level <= v.Cluster.FeatureLevel {
		return unchanged(v, Result{})
	}
	for _, n := range v.Nodes {
		if n.State != NodeRemoved && !n.Features.Has(c.Level) {
			return refused(v, fmt.Errorf("%w: level %d: node %s runs at %d to %d",
				ErrFeature, c.Level, n.Name, n.Features.Min, n.Features.Max))
		}
	}
	ch := begin(v, at)
	ch.next.Cluster.FeatureLevel = c.Level
	ch.putCluster()
	ch.note("feature level raised to %d", c.Level)
	return ch.done(Result{})
}
