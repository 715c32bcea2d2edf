package meta

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/waystation/waystation/storage"
)

// Refounding says how a cluster goes on from a copy of its records that may be
// behind: as a cluster of one node.
type Refounding struct {
	// Cluster is the id of the new cluster. Zero: it is the same cluster as before,
	// and all of its nodes but Node are removed for good.
	Cluster ClusterID
	// Node has the only replica of everything.
	Node Node
	// Applied is the index at which the records are.
	Applied uint64
	// NowMs is the time in milliseconds since the Unix epoch.
	NowMs int64
	// Groups are those that partitions know; what the records lack of them is added.
	Groups []Group
	// Why is noted among the operations, unless it is empty.
	Why string
}

// What the records may lack was given out all the same. So the numbers go on this
// far behind them: no cluster gives out as many between two refoundings.
const (
	jumpReplica = 1 << 32
	jumpGroup   = 1 << 16
	jumpEpoch   = 1 << 32
)

// Refounded is what Refound makes.
type Refounded struct {
	Cluster Cluster
	Records []Record
	// Replicas is the one of each group, by the group's number.
	Replicas []storage.ReplicaID
	// Removed are the nodes that were members until now.
	Removed []Node
}

// Refound makes the records of a cluster that goes on from old, in the order of
// their keys: with its groups, producers, partitions and hash seed.
func Refound(old []Record, how Refounding) (Refounded, error) {
	b := refounder{how: how}
	for _, r := range old {
		if err := b.take(r); err != nil {
			return Refounded{}, err
		}
	}
	c := &b.out.Cluster
	if c.ID.IsZero() {
		return Refounded{}, fmt.Errorf("%w: there is no cluster among the records", ErrInvalid)
	}
	if !how.Cluster.IsZero() {
		c.ID = how.Cluster
	}
	c.NextReplica += jumpReplica
	c.NextGroup += jumpGroup
	c.Generation++
	c.FeatureLevel = max(c.FeatureLevel, FeatureNumbers)
	b.groups()
	b.put(producerRecord(otherProducers, b.epoch+jumpEpoch))
	b.replicas()
	n := how.Node
	n.State, n.ChangedMs = NodeActive, how.NowMs
	if n.JoinedMs == 0 {
		n.JoinedMs = how.NowMs
	}
	if err := n.validate(); err != nil {
		return Refounded{}, err
	}
	if how.Why != "" {
		b.put(operationRecord(Operation{Seq: b.operation + 1, TimeMs: how.NowMs, Text: cut(how.Why, maxOperationText)}))
	}
	b.put(nodeRecord(n))
	b.put(clusterRecord(*c))
	b.put(appliedRecord(how.Applied))
	slices.SortFunc(b.out.Records, func(a, b Record) int { return bytes.Compare(a.Key, b.Key) })
	return b.out, nil
}

type refounder struct {
	how       Refounding
	out       Refounded
	known     []Group
	epoch     uint64 // of producers whose names are not known
	operation uint64 // the last one
}

func (b *refounder) put(r Record) { b.out.Records = append(b.out.Records, r) }

// take keeps what stays of an old record.
func (b *refounder) take(r Record) (err error) {
	if len(r.Key) < 3 {
		return errBroken
	}
	switch r.Key[2] {
	case tableCluster:
		b.out.Cluster, err = parseCluster(r.Value)
	case tableGroup:
		var g Group
		g, err = parseGroup(r.Key, r.Value)
		b.known = append(b.known, g)
		b.put(r)
	case tableProducer:
		err = b.producer(r)
	case tableNode:
		err = b.node(r)
	case tableOperation:
		var o Operation
		if o, err = parseOperation(r.Key, r.Value); b.how.Cluster.IsZero() {
			b.operation = max(b.operation, o.Seq)
			b.put(r)
		}
	}
	return corrupt(r.Key, "record", err)
}

func (b *refounder) producer(r Record) error {
	name := string(r.Key[3:])
	epoch, err := parseProducer(r.Value)
	if name == otherProducers {
		b.epoch = epoch
		return err
	}
	b.put(producerRecord(name, epoch+jumpEpoch))
	return err
}

// node removes a node of a cluster that stays the same one.
func (b *refounder) node(r Record) error {
	n, err := parseNode(r.Key, r.Value)
	if err != nil || n.ID == b.how.Node.ID || !b.how.Cluster.IsZero() {
		return err
	}
	if n.State != NodeRemoved {
		b.out.Removed = append(b.out.Removed, n)
		n.State, n.ChangedMs = NodeRemoved, b.how.NowMs
	}
	b.put(nodeRecord(n))
	return nil
}

// groups adds those that partitions know and the records do not.
func (b *refounder) groups() {
	for _, g := range b.how.Groups {
		same := func(x Group) bool { return x.ID == g.ID || x.Name == g.Name }
		if !slices.ContainsFunc(b.known, same) {
			b.known = append(b.known, g)
			b.put(groupRecord(g))
		}
	}
}

func (b *refounder) replicas() {
	c := &b.out.Cluster
	for g := MetaGroup; g <= PartitionGroup(c.Partitions-1); g++ {
		r := c.NextReplica
		c.NextReplica++
		b.out.Replicas = append(b.out.Replicas, r)
		b.put(replicaRecord(Replica{ID: r, Group: g, Node: b.how.Node.ID, Role: Voter, Leader: true, State: ReplicaWanted}))
		b.put(placementRecord(Placement{Group: g, Version: c.Generation, Reported: c.Generation, Settled: true, Voters: []storage.ReplicaID{r}}))
	}
}
