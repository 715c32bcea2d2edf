package meta

import (
	"encoding/binary"

	"github.com/waystation/waystation/storage"
)

// The tables of the state. They are stored: never reuse one.
const (
	tableApplied  = 1
	tableCluster  = 2
	tableNode     = 3
	tableReplica  = 4
	tableProducer = 5
	tableGroup    = 6

	tablePlacement = 7
	tableOperation = 8

	tableConf = 15
)

// key begins a key of a table. ff ff is no partition's number.
func key(table byte) []byte { return []byte{0xff, 0xff, table} }

// tableEnd is the first key behind a table.
func tableEnd(table byte) []byte { return key(table + 1) }

// Record is a key and its value in the state; without a value, the key is
// deleted.
type Record struct{ Key, Value []byte }

func appliedRecord(index uint64) Record {
	return Record{key(tableApplied), binary.BigEndian.AppendUint64([]byte{version1}, index)}
}

func parseApplied(b []byte) (uint64, error) {
	d := decode(b)
	index := d.u64()
	return index, d.end()
}

func clusterRecord(c Cluster) Record {
	b := append([]byte{version1}, c.ID[:]...)
	b = appendName(b, c.Name)
	b = binary.BigEndian.AppendUint16(b, c.Partitions)
	b = binary.BigEndian.AppendUint64(b, c.HashSeed)
	b = binary.BigEndian.AppendUint32(b, c.FeatureLevel)
	b = binary.BigEndian.AppendUint64(b, uint64(c.NextReplica))
	b = binary.BigEndian.AppendUint32(b, c.NextGroup)
	b = binary.BigEndian.AppendUint32(b, c.Producers)
	return Record{key(tableCluster), binary.BigEndian.AppendUint64(b, c.Generation)}
}

func parseCluster(b []byte) (Cluster, error) {
	d := decode(b)
	c := Cluster{
		ID: d.id(), Name: d.name(), Partitions: d.u16(), HashSeed: d.u64(), FeatureLevel: d.u32(),
		NextReplica: storage.ReplicaID(d.u64()), NextGroup: d.u32(), Producers: d.u32(),
		Generation: d.u64(),
	}
	return c, d.end()
}

func producerKey(name string) []byte { return append(key(tableProducer), name...) }

func producerRecord(name string, epoch uint64) Record {
	return Record{producerKey(name), binary.BigEndian.AppendUint64([]byte{version1}, epoch)}
}

func parseProducer(b []byte) (uint64, error) {
	d := decode(b)
	epoch := d.u64()
	return epoch, d.end()
}

func groupRecord(g Group) Record {
	b := appendName([]byte{version1}, g.Name)
	b = binary.BigEndian.AppendUint32(b, g.Version)
	return Record{binary.BigEndian.AppendUint32(key(tableGroup), g.ID), appendBytes(b, g.Settings)}
}

func parseGroup(k, b []byte) (Group, error) {
	if len(k) != len(key(tableGroup))+4 {
		return Group{}, errBroken
	}
	d := decode(b)
	g := Group{ID: binary.BigEndian.Uint32(k[3:]), Name: d.name(), Version: d.u32(), Settings: d.bytes()}
	return g, d.end()
}
