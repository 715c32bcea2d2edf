package meta

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/waystation/waystation/cluster/identity"
)

// The kinds of commands. They are stored: never reuse one.
const (
	kindInit         = 1
	kindStartNode    = 2
	kindOpenProducer = 3
	kindEnsureGroup  = 4
)

// ErrCommand says that an entry holds a command that this version does not
// know, or that it is damaged. The replica stops.
var ErrCommand = errors.New("command unreadable")

// Command is one change of meta's state.
type Command interface {
	kind() uint8
	// append lays out the body, version first.
	append(b []byte) []byte
	// validate says what a client did wrong; what it refuses must not be
	// proposed.
	validate() error
}

// Init makes the cluster, with its first node. Only the first one counts.
type Init struct {
	Cluster      ClusterID
	Name         string
	Partitions   uint16
	HashSeed     uint64
	FeatureLevel uint32
	Node         Node
}

// StartNode records that a node started.
type StartNode struct{ Node Node }

// OpenProducer gives a producer name its next epoch.
type OpenProducer struct{ Name string }

// EnsureGroup makes a consumer group, unless it exists.
type EnsureGroup struct {
	Name     string
	Settings []byte
}

// MaxPartitions leaves the numbers above for keys that are not partitions'.
const MaxPartitions = 4096

// MaxGroups is how many consumer groups a cluster may have.
const MaxGroups = 1024

// MaxProducers is how many named producers a cluster remembers: an epoch that
// was forgotten could be given out again, so that none is ever dropped.
const MaxProducers = 1_000_000

const (
	maxProducerName = 128
	maxGroupName    = 128
	maxSettings     = 64 << 10
)

func (c *Init) kind() uint8         { return kindInit }
func (c *StartNode) kind() uint8    { return kindStartNode }
func (c *OpenProducer) kind() uint8 { return kindOpenProducer }
func (c *EnsureGroup) kind() uint8  { return kindEnsureGroup }

func (c *Init) append(b []byte) []byte {
	b = append(append(b, version1), c.Cluster[:]...)
	b = appendName(b, c.Name)
	b = binary.BigEndian.AppendUint16(b, c.Partitions)
	b = binary.BigEndian.AppendUint64(b, c.HashSeed)
	b = binary.BigEndian.AppendUint32(b, c.FeatureLevel)
	return appendNode(append(b, c.Node.ID[:]...), c.Node)
}

func (c *StartNode) append(b []byte) []byte {
	return appendNode(append(append(b, version1), c.Node.ID[:]...), c.Node)
}

func (c *OpenProducer) append(b []byte) []byte { return appendName(append(b, version1), c.Name) }

func (c *EnsureGroup) append(b []byte) []byte {
	return appendBytes(appendName(append(b, version1), c.Name), c.Settings)
}

// appendNode lays out what a node's record and the commands share.
func appendNode(b []byte, n Node) []byte {
	b = appendName(b, n.Name)
	b = binary.BigEndian.AppendUint64(b, n.Boot)
	return binary.BigEndian.AppendUint64(b, n.Life)
}

func (d *decoder) node(id identity.NodeID) Node {
	return Node{ID: id, Name: d.name(), Boot: d.u64(), Life: d.u64()}
}

// decodeCommand reads the body of an entry of the given kind.
func decodeCommand(kind uint8, body []byte) (Command, error) {
	d := decode(body)
	var c Command
	switch kind {
	case kindInit:
		x := &Init{Cluster: d.id(), Name: d.name(), Partitions: d.u16(), HashSeed: d.u64(), FeatureLevel: d.u32()}
		x.Node = d.node(d.id())
		c = x
	case kindStartNode:
		c = &StartNode{Node: d.node(d.id())}
	case kindOpenProducer:
		c = &OpenProducer{Name: d.name()}
	case kindEnsureGroup:
		c = &EnsureGroup{Name: d.name(), Settings: d.bytes()}
	default:
		return nil, fmt.Errorf("%w: kind %d", ErrCommand, kind)
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("%w: kind %d: %w", ErrCommand, kind, err)
	}
	return c, nil
}

func (c *Init) validate() error {
	switch {
	case c.Cluster.IsZero():
		return errors.New("cluster id: must not be zero")
	case len(c.Name) < 1 || len(c.Name) > maxName:
		return fmt.Errorf("cluster name: must be 1 to %d bytes", maxName)
	case c.Partitions < 1 || c.Partitions > MaxPartitions:
		return fmt.Errorf("partitions: must be 1 to %d", MaxPartitions)
	}
	return c.Node.validate()
}

func (c *StartNode) validate() error { return c.Node.validate() }

func (n *Node) validate() error {
	switch {
	case n.ID.IsZero():
		return errors.New("node id: must not be zero")
	case len(n.Name) > maxName:
		return fmt.Errorf("node name: must be at most %d bytes", maxName)
	case n.Boot == 0:
		return errors.New("boot counter: must not be zero")
	}
	return nil
}

func (c *OpenProducer) validate() error {
	if len(c.Name) < 1 || len(c.Name) > maxProducerName {
		return fmt.Errorf("producer: must be 1 to %d bytes", maxProducerName)
	}
	return nil
}

func (c *EnsureGroup) validate() error {
	switch {
	case len(c.Name) < 1 || len(c.Name) > maxGroupName:
		return fmt.Errorf("group: must be 1 to %d bytes", maxGroupName)
	case len(c.Settings) > maxSettings:
		return fmt.Errorf("group settings: must be at most %d bytes", maxSettings)
	}
	return nil
}
