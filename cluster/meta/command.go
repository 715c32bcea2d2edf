package meta

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/waystation/waystation/messages/envelope"
)

// The kinds of commands. They are stored: never reuse one.
const (
	kindInit           = 1
	kindStartNode      = 2
	kindOpenProducer   = 3
	kindEnsureGroup    = 4
	kindJoinNode       = 5
	kindSetNodeState   = 6
	kindSetMap         = 7
	kindReportGroup    = 8
	kindReplicaGone    = 9
	kindReplaceReplica = 10
	kindRaiseFeature   = 11
	kindSetGroup       = 12
	kindDropGroup      = 13
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

// Init makes the cluster, with its first node. Only the first one counts: to
// make the same cluster again changes nothing.
type Init struct {
	Cluster      ClusterID
	Name         string
	Partitions   uint16
	HashSeed     uint64
	FeatureLevel uint32
	Node         Node
}

// OpenProducer gives a producer name its next epoch. Proposed again it gives a
// higher one: an epoch that nobody was given is skipped, which harms nobody.
type OpenProducer struct{ Name string }

// EnsureGroup makes a consumer group, unless it exists: the second time it is
// only found.
type EnsureGroup struct {
	Name     string
	Settings []byte
}

// SetGroup makes a consumer group, where Version is 0, or changes the settings of
// one that is at Version. Proposed again it is found to be done.
type SetGroup struct {
	Name     string
	Version  uint32
	Settings []byte
}

// DropGroup deletes a consumer group by its id, which is never given again: that it
// was given and that there is no such group says for ever that it was deleted. Proposed
// again it is found to be done.
type DropGroup struct{ ID uint32 }

// RaiseFeature raises the feature level, once all nodes' programs run at it. A
// level that is reached is not reached twice.
type RaiseFeature struct{ Level uint32 }

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
func (c *OpenProducer) kind() uint8 { return kindOpenProducer }
func (c *EnsureGroup) kind() uint8  { return kindEnsureGroup }
func (c *SetGroup) kind() uint8     { return kindSetGroup }
func (c *DropGroup) kind() uint8    { return kindDropGroup }
func (c *RaiseFeature) kind() uint8 { return kindRaiseFeature }

func (c *Init) append(b []byte) []byte {
	b = append(append(b, version1), c.Cluster[:]...)
	b = appendName(b, c.Name)
	b = binary.BigEndian.AppendUint16(b, c.Partitions)
	b = binary.BigEndian.AppendUint64(b, c.HashSeed)
	b = binary.BigEndian.AppendUint32(b, c.FeatureLevel)
	return appendNode(append(b, c.Node.ID[:]...), c.Node)
}

func (c *OpenProducer) append(b []byte) []byte { return appendName(append(b, version1), c.Name) }

func (c *EnsureGroup) append(b []byte) []byte {
	return appendBytes(appendName(append(b, version1), c.Name), c.Settings)
}

func (c *SetGroup) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(appendName(append(b, version1), c.Name), c.Version)
	return appendBytes(b, c.Settings)
}

func (c *DropGroup) append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(append(b, version1), c.ID)
}

func (c *RaiseFeature) append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(append(b, version1), c.Level)
}

// Entry lays a command out as an entry of the meta group: its body, behind an
// envelope that has nothing but the kind. The rest of it is the proposer's.
func Entry(c Command) []byte {
	data := make([]byte, envelope.Size, envelope.Size+256)
	envelope.Envelope{Kind: c.kind()}.Put(data)
	return c.append(data)
}

// readers decode the body of each kind of command.
func readers() map[uint8]func(d *decoder) Command {
	return map[uint8]func(d *decoder) Command{
		kindInit: func(d *decoder) Command {
			c := &Init{Cluster: d.id(), Name: d.name(), Partitions: d.u16(), HashSeed: d.u64(), FeatureLevel: d.u32()}
			c.Node = d.node(d.id())
			return c
		},
		kindStartNode:      func(d *decoder) Command { return &StartNode{Node: d.node(d.id())} },
		kindOpenProducer:   func(d *decoder) Command { return &OpenProducer{Name: d.name()} },
		kindEnsureGroup:    func(d *decoder) Command { return &EnsureGroup{Name: d.name(), Settings: d.bytes()} },
		kindSetGroup:       func(d *decoder) Command { return &SetGroup{Name: d.name(), Version: d.u32(), Settings: d.bytes()} },
		kindDropGroup:      func(d *decoder) Command { return &DropGroup{ID: d.u32()} },
		kindJoinNode:       func(d *decoder) Command { return &JoinNode{Node: d.node(d.id())} },
		kindSetNodeState:   readSetNodeState,
		kindSetMap:         readSetMap,
		kindReportGroup:    readReportGroup,
		kindReplicaGone:    readReplicaGone,
		kindReplaceReplica: readReplaceReplica,
		kindRaiseFeature:   func(d *decoder) Command { return &RaiseFeature{Level: d.u32()} },
	}
}

// decodeCommand reads the body of an entry of the given kind.
func decodeCommand(kind uint8, body []byte) (Command, error) {
	read, ok := readers()[kind]
	if !ok {
		return nil, fmt.Errorf("%w: kind %d", ErrCommand, kind)
	}
	d := decode(body)
	c := read(d)
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("%w: kind %d: %w", ErrCommand, kind, err)
	}
	return c, nil
}

func (c *Init) validate() error {
	switch {
	case c.Cluster.IsZero():
		return fmt.Errorf("%w: cluster id: must not be zero", ErrInvalid)
	case len(c.Name) < 1 || len(c.Name) > maxName:
		return fmt.Errorf("%w: cluster name: must be 1 to %d bytes", ErrInvalid, maxName)
	case c.Partitions < 1 || c.Partitions > MaxPartitions:
		return fmt.Errorf("%w: partitions: must be 1 to %d", ErrInvalid, MaxPartitions)
	case !c.Node.Features.Has(c.FeatureLevel):
		return fmt.Errorf("%w: level %d: the first node runs at %d to %d",
			ErrFeature, c.FeatureLevel, c.Node.Features.Min, c.Node.Features.Max)
	}
	return c.Node.validate()
}

func (c *OpenProducer) validate() error {
	if len(c.Name) < 1 || len(c.Name) > maxProducerName {
		return fmt.Errorf("%w: producer: must be 1 to %d bytes", ErrInvalid, maxProducerName)
	}
	return nil
}

func (c *EnsureGroup) validate() error { return validGroup(c.Name, c.Settings) }
func (c *SetGroup) validate() error    { return validGroup(c.Name, c.Settings) }

func validGroup(name string, settings []byte) error {
	switch {
	case len(name) < 1 || len(name) > maxGroupName:
		return fmt.Errorf("%w: group: must be 1 to %d bytes", ErrInvalid, maxGroupName)
	case len(settings) > maxSettings:
		return fmt.Errorf("%w: group settings: must be at most %d bytes", ErrInvalid, maxSettings)
	}
	return nil
}

func (c *DropGroup) validate() error { return nil }

func (c *RaiseFeature) validate() error { return nil }
