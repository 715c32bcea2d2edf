package member

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// Belonging says which cluster a data folder is part of. It is written, with a
// sync, before the node has any replica, and never changes.
type Belonging struct {
	Cluster meta.ClusterID
	Name    string
	// Partitions and HashSeed are the cluster's, for its life.
	Partitions uint16
	HashSeed   uint64
	// Replica is this node's first replica of the meta group.
	Replica storage.ReplicaID
	// Node is this node's name, unless a flag gives it another.
	Node string
	// Founder says that this node made the cluster, as its only voter: the first
	// replica of each group was its own.
	Founder bool
}

var errRecord = errors.New("membership record unreadable")

func recordKey() []byte { return []byte("membership") }

const recordVersion = 1

// append lays the record out: version u8, cluster id 16, partitions u16, hash
// seed u64, replica u64, founder u8, and two names, each behind its length u8.
func (b Belonging) append(out []byte) []byte {
	out = append(append(out, recordVersion), b.Cluster[:]...)
	out = binary.BigEndian.AppendUint16(out, b.Partitions)
	out = binary.BigEndian.AppendUint64(out, b.HashSeed)
	out = binary.BigEndian.AppendUint64(out, uint64(b.Replica))
	founder := byte(0)
	if b.Founder {
		founder = 1
	}
	out = append(out, founder)
	for _, name := range []string{b.Name, b.Node} {
		out = append(append(out, byte(len(name))), name...)
	}
	return out
}

const recordHead = 1 + 16 + 2 + 8 + 8 + 1

func parseBelonging(data []byte) (Belonging, error) {
	if len(data) < recordHead || data[0] != recordVersion {
		return Belonging{}, fmt.Errorf("%w: %d bytes", errRecord, len(data))
	}
	b := Belonging{
		Partitions: binary.BigEndian.Uint16(data[17:]), HashSeed: binary.BigEndian.Uint64(data[19:]),
		Replica: storage.ReplicaID(binary.BigEndian.Uint64(data[27:])), Founder: data[35] == 1,
	}
	rest := data[recordHead:]
	for _, name := range []*string{&b.Name, &b.Node} {
		if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
			return Belonging{}, fmt.Errorf("%w: cut short", errRecord)
		}
		*name, rest = string(rest[1:1+rest[0]]), rest[1+rest[0]:]
	}
	copy(b.Cluster[:], data[1:17])
	if b.Cluster.IsZero() || b.Partitions == 0 || b.Replica == 0 {
		return Belonging{}, fmt.Errorf("%w: a zero that must not be", errRecord)
	}
	return b, nil
}

// load returns what the data folder remembers; found is false for a new one.
func load(log *storage.Log) (b Belonging, found bool, err error) {
	data, err := log.Node(recordKey())
	if errors.Is(err, storage.ErrNotFound) {
		return Belonging{}, false, nil
	}
	if err == nil {
		b, err = parseBelonging(data)
	}
	if err != nil {
		return b, false, fmt.Errorf("read membership: %w", err)
	}
	return b, true, nil
}

func save(log *storage.Log, b Belonging) error {
	batch := log.NewBatch()
	batch.PutNode(recordKey(), b.append(nil))
	if err := batch.Commit(true); err != nil {
		return fmt.Errorf("record membership: %w", err)
	}
	return nil
}

// Record writes, with a sync, which cluster a data folder belongs to that no node
// runs on yet.
func Record(log *storage.Log, b Belonging) error { return save(log, b) }

// Load returns which cluster a data folder belongs to that no node runs on; found
// is false if to none yet.
func Load(log *storage.Log) (b Belonging, found bool, err error) { return load(log) }

// BuryMeta ends, with a sync, a replica of the meta group that the node still has
// though b names its successor: it stopped between the two. The successor begins
// with nothing; what the old one left goes then.
func BuryMeta(log *storage.Log, b *Belonging) error {
	list, err := log.Replicas()
	if err != nil {
		return fmt.Errorf("read replica records: %w", err)
	}
	for _, r := range list {
		if r.Group != meta.MetaGroup || r.Replica >= b.Replica || r.State != storage.ReplicaLive {
			continue
		}
		batch := log.NewBatch()
		batch.PutReplica(storage.ReplicaMeta{Group: r.Group, Replica: r.Replica, State: storage.ReplicaTombstone})
		if err := batch.Commit(true); err != nil {
			return fmt.Errorf("bury replica %d of meta: %w", r.Replica, err)
		}
	}
	return nil
}
