package meta

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

// SetMap replaces the wish of the groups that it names, if the map is still of
// the generation that it was computed from. Proposed again it finds a newer
// generation and is refused with ErrStale: its proposer looks at the map and
// computes anew, so that nothing is placed twice.
type SetMap struct {
	Generation uint64
	Groups     []GroupWish
	// Why is for the log of operations.
	Why string
}

// GroupWish is all that a group is to have.
type GroupWish struct {
	Group    storage.GroupID
	Replicas []ReplicaWish
}

// ReplicaWish is one replica that a group is to have. Replica is 0 for a new
// one, which gets its id from Apply; else it names one that the group has.
type ReplicaWish struct {
	Replica storage.ReplicaID
	Node    identity.NodeID
	Role    Role
	// Leader says that the group should be led by this one, a voter.
	Leader bool
}

// ReportGroup is what a group's leader reports of its members: Voters are those
// of both configurations while they are joint, Learners those that become
// learners too.
//
// It has two uses. What left the map and is no member is retired, so that its
// node may delete it. And the leader learns that the wish it goes by is the
// newest: no leader changes its group before meta has taken its report of that
// version in its term. That keeps a replica from being retired by one leader
// while another, on an older map, makes a voter of it: meta refuses reports of
// other versions and of older terms.
//
// The same report twice changes nothing.
type ReportGroup struct {
	Group         storage.GroupID
	Version, Term uint64
	Joint         bool
	Voters        []storage.ReplicaID
	Learners      []storage.ReplicaID
}

// ReplicaGone is a node's word that it has deleted a replica. To forget it a
// second time changes nothing.
type ReplicaGone struct {
	Group   storage.GroupID
	Replica storage.ReplicaID
}

// ReplaceReplica reports that a replica was quarantined: another one under a new
// id takes its place on the same node. A replica that is replaced already is
// not replaced again; the result names its successor. One that the map wants for a
// voter, and which may not be one yet, is not replaced at once: see takeBack.
type ReplaceReplica struct {
	Group   storage.GroupID
	Replica storage.ReplicaID
	Why     string
}

const (
	// MaxVoters is how many replicas of a group may vote.
	MaxVoters = 5
	// maxWishes bounds what one SetMap may name; a larger map is set in parts.
	maxWishes  = 4096
	maxWhy     = 255
	maxMembers = 1024
)

func (c *SetMap) kind() uint8         { return kindSetMap }
func (c *ReportGroup) kind() uint8    { return kindReportGroup }
func (c *ReplicaGone) kind() uint8    { return kindReplicaGone }
func (c *ReplaceReplica) kind() uint8 { return kindReplaceReplica }

func (c *SetMap) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, version1), c.Generation)
	b = appendName(b, c.Why)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Groups)))
	for _, g := range c.Groups {
		b = binary.BigEndian.AppendUint32(b, uint32(g.Group))
		b = binary.BigEndian.AppendUint16(b, uint16(len(g.Replicas)))
		for _, r := range g.Replicas {
			b = binary.BigEndian.AppendUint64(b, uint64(r.Replica))
			b = append(append(b, r.Node[:]...), byte(r.Role), boolByte(r.Leader))
		}
	}
	return b
}

func readSetMap(d *decoder) Command {
	c := &SetMap{Generation: d.u64(), Why: d.name()}
	for range d.u16() {
		g := GroupWish{Group: storage.GroupID(d.u32())}
		for range d.u16() {
			if d.bad {
				return c
			}
			r := ReplicaWish{Replica: storage.ReplicaID(d.u64()), Node: d.id(), Role: Role(d.u8()), Leader: d.bool()}
			g.Replicas = append(g.Replicas, r)
		}
		c.Groups = append(c.Groups, g)
	}
	return c
}

func (c *ReportGroup) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, version1), uint32(c.Group))
	b = binary.BigEndian.AppendUint64(b, c.Version)
	b = binary.BigEndian.AppendUint64(b, c.Term)
	return appendReplicas(appendReplicas(append(b, boolByte(c.Joint)), c.Voters), c.Learners)
}

func readReportGroup(d *decoder) Command {
	return &ReportGroup{
		Group: storage.GroupID(d.u32()), Version: d.u64(), Term: d.u64(), Joint: d.bool(),
		Voters: d.replicas(), Learners: d.replicas(),
	}
}

func (c *ReplicaGone) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, version1), uint32(c.Group))
	return binary.BigEndian.AppendUint64(b, uint64(c.Replica))
}

func readReplicaGone(d *decoder) Command {
	return &ReplicaGone{Group: storage.GroupID(d.u32()), Replica: storage.ReplicaID(d.u64())}
}

func (c *ReplaceReplica) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, version1), uint32(c.Group))
	return appendName(binary.BigEndian.AppendUint64(b, uint64(c.Replica)), c.Why)
}

func readReplaceReplica(d *decoder) Command {
	return &ReplaceReplica{Group: storage.GroupID(d.u32()), Replica: storage.ReplicaID(d.u64()), Why: d.name()}
}

func (c *SetMap) validate() error {
	if len(c.Why) > maxWhy {
		return fmt.Errorf("%w: reason: must be at most %d bytes", ErrInvalid, maxWhy)
	}
	total := 0
	for i, g := range c.Groups {
		if slices.ContainsFunc(c.Groups[:i], func(o GroupWish) bool { return o.Group == g.Group }) {
			return fmt.Errorf("%w: group %d is named twice", ErrMap, g.Group)
		}
		if err := g.validate(); err != nil {
			return fmt.Errorf("group %d: %w", g.Group, err)
		}
		total += len(g.Replicas)
	}
	if total > maxWishes || len(c.Groups) > maxWishes {
		return fmt.Errorf("%w: %d replicas in one change, at most %d", ErrMap, total, maxWishes)
	}
	return nil
}

func (g *GroupWish) validate() error {
	voters, leaders := 0, 0
	for i, r := range g.Replicas {
		switch {
		case r.Role != Learner && r.Role != Voter:
			return fmt.Errorf("%w: %s", ErrMap, r.Role)
		case r.Leader && r.Role != Voter:
			return fmt.Errorf("%w: a learner cannot lead", ErrMap)
		case slices.ContainsFunc(g.Replicas[:i], func(o ReplicaWish) bool { return o.Node == r.Node }):
			return fmt.Errorf("%w: two replicas on node %s", ErrMap, r.Node)
		}
		if r.Role == Voter {
			voters++
		}
		if r.Leader {
			leaders++
		}
	}
	if voters%2 == 0 || voters > MaxVoters || leaders > 1 {
		return fmt.Errorf("%w: %d voters, %d leaders: must be 1, 3 or 5, and one at most", ErrMap, voters, leaders)
	}
	return nil
}

func (c *ReportGroup) validate() error {
	if len(c.Voters) < 1 || len(c.Voters)+len(c.Learners) > maxMembers {
		return fmt.Errorf("%w: report of %d voters and %d learners", ErrInvalid, len(c.Voters), len(c.Learners))
	}
	if !slices.IsSorted(c.Voters) || !slices.IsSorted(c.Learners) {
		return fmt.Errorf("%w: members must be ascending", ErrInvalid)
	}
	return nil
}

func (c *ReplicaGone) validate() error { return nil }

func (c *ReplaceReplica) validate() error {
	if len(c.Why) > maxWhy {
		return fmt.Errorf("%w: reason: must be at most %d bytes", ErrInvalid, maxWhy)
	}
	return nil
}
