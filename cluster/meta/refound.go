package meta

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/waystation/waystation/storage"
)

// Refound makes the records of a new cluster out of those of another, in the
// order of their keys: with its groups, producers, partitions and hash seed, but
// with the given id, one node that has the only replica of everything, and the
// applied index. Replica ids go on where the old cluster's were. It returns the
// replica of each group, by the group's number, too.
func Refound(old []Record, id ClusterID, n Node, applied uint64, nowMs int64) (records []Record, replicas []storage.ReplicaID, c Cluster, err error) {
	for _, r := range old {
		if len(r.Key) < 3 {
			return nil, nil, c, errBroken
		}
		switch r.Key[2] {
		case tableCluster:
			if c, err = parseCluster(r.Value); err != nil {
				return nil, nil, c, corrupt(r.Key, "cluster", err)
			}
		case tableProducer, tableGroup:
			records = append(records, r)
		}
	}
	if c.ID.IsZero() {
		return nil, nil, c, fmt.Errorf("%w: there is no cluster among the records", ErrInvalid)
	}
	c.ID = id
	c.Generation++
	for g := MetaGroup; g <= PartitionGroup(c.Partitions-1); g++ {
		r := c.NextReplica
		c.NextReplica++
		replicas = append(replicas, r)
		records = append(records,
			replicaRecord(Replica{ID: r, Group: g, Node: n.ID, Role: Voter, Leader: true, State: ReplicaWanted}),
			placementRecord(Placement{Group: g, Version: c.Generation, Reported: c.Generation, Settled: true, Voters: []storage.ReplicaID{r}}))
	}
	n.State, n.JoinedMs, n.ChangedMs = NodeActive, nowMs, nowMs
	if err := n.validate(); err != nil {
		return nil, nil, c, err
	}
	records = append(records, nodeRecord(n), clusterRecord(c), appliedRecord(applied))
	slices.SortFunc(records, func(a, b Record) int { return bytes.Compare(a.Key, b.Key) })
	return records, replicas, c, nil
}
