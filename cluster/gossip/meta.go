package gossip

import (
	"encoding/binary"
	"fmt"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
)

// State is what a node says that it is doing.
type State uint8

// A node's states, in the order in which it passes them.
const (
	Starting State = iota
	Serving
	Draining
	Leaving
)

// String returns the state's name.
func (s State) String() string {
	switch s {
	case Starting:
		return "starting"
	case Serving:
		return "serving"
	case Draining:
		return "draining"
	case Leaving:
		return "leaving"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Meta is what a node tells of itself. Its encoding has room for MetaBytes.
type Meta struct {
	Node identity.NodeID
	// Cluster is zero while the node belongs to none.
	Cluster meta.ClusterID
	// Boot counts the starts of the node's data folder.
	Boot uint64
	// State is what it is doing.
	State State
	// Level is the feature level that the node supports.
	Level uint32
	// Expect is the number of nodes that it waits for before it makes a cluster
	// together with them (--bootstrap-expect), or zero.
	Expect uint16
	// Name, Zone and Version are labels for people; Zone is for placement too.
	Name, Zone, Version string
	// GRPC, HTTP and Peer are host:port.
	GRPC, HTTP, Peer string
}

// MetaBytes is the room for a node's record.
const MetaBytes = 512

const metaVersion = 1

// Encode lays the record out: version u8, node id 16 bytes, cluster id 16 bytes,
// boot, state, level, expect as uvarints, then each string behind its length.
// What a later version appends is ignored by this one. ErrMeta if it is larger
// than MetaBytes.
func (m Meta) Encode() ([]byte, error) {
	b := make([]byte, 0, MetaBytes)
	b = append(b, metaVersion)
	b = append(b, m.Node[:]...)
	b = append(b, m.Cluster[:]...)
	for _, n := range []uint64{m.Boot, uint64(m.State), uint64(m.Level), uint64(m.Expect)} {
		b = binary.AppendUvarint(b, n)
	}
	for _, s := range []string{m.Name, m.Zone, m.Version, m.GRPC, m.HTTP, m.Peer} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	if len(b) > MetaBytes {
		return nil, fmt.Errorf("%w: %d bytes, %d at most: shorten the name, the zone or the addresses", ErrMeta, len(b), MetaBytes)
	}
	return b, nil
}

// DecodeMeta reads what Encode wrote, or ErrMeta. It keeps nothing of b.
func DecodeMeta(b []byte) (Meta, error) {
	var m Meta
	if len(b) < 33 || len(b) > MetaBytes || b[0] < metaVersion {
		return Meta{}, fmt.Errorf("%w: %d bytes", ErrMeta, len(b))
	}
	copy(m.Node[:], b[1:17])
	copy(m.Cluster[:], b[17:33])
	r := reader{rest: b[33:]}
	m.Boot = r.number(1<<64 - 1)
	m.State = State(r.number(1<<8 - 1))
	m.Level = uint32(r.number(1<<32 - 1))
	m.Expect = uint16(r.number(1<<16 - 1))
	for _, s := range []*string{&m.Name, &m.Zone, &m.Version, &m.GRPC, &m.HTTP, &m.Peer} {
		*s = r.text()
	}
	if r.bad || m.Node.IsZero() {
		return Meta{}, fmt.Errorf("%w: cut short, or without a node id", ErrMeta)
	}
	return m, nil
}

// reader walks a record; bad is set by the first thing that does not fit.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) number(most uint64) uint64 {
	n, size := binary.Uvarint(r.rest)
	if r.bad || size <= 0 || n > most {
		r.bad = true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) text() string {
	n := r.number(MetaBytes)
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}
