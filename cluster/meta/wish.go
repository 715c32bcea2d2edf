package meta

import (
	"encoding/binary"
	"fmt"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

// Role is what the map wants a replica to be. The values are stored: never
// reuse one.
type Role uint8

const (
	// Learner has all of the group's data and does not vote.
	Learner Role = 1
	// Voter votes; a new one is a learner first, until it has caught up.
	Voter Role = 2
)

// String returns the role in one word.
func (r Role) String() string {
	switch r {
	case Learner:
		return "learner"
	case Voter:
		return "voter"
	default:
		return fmt.Sprintf("role(%d)", uint8(r))
	}
}

// ReplicaState is where a replica stands on its way. The values are stored:
// never reuse one.
type ReplicaState uint8

const (
	// ReplicaWanted is in the map.
	ReplicaWanted ReplicaState = 1
	// ReplicaLeaving is in the map no longer; its group may still count on it, so
	// that it runs on.
	ReplicaLeaving ReplicaState = 2
	// ReplicaBroken was quarantined: another one takes its place. Its data is
	// worth nothing and may be deleted, though its group may still count it.
	ReplicaBroken ReplicaState = 3
	// ReplicaErased is broken, and its node has deleted it.
	ReplicaErased ReplicaState = 4
	// ReplicaRetired is out of its group. Its node deletes it, and says so.
	ReplicaRetired ReplicaState = 5
)

// String returns the state in one word.
func (s ReplicaState) String() string {
	switch s {
	case ReplicaWanted:
		return "wanted"
	case ReplicaLeaving:
		return "leaving"
	case ReplicaBroken:
		return "broken"
	case ReplicaErased:
		return "erased"
	case ReplicaRetired:
		return "retired"
	default:
		return fmt.Sprintf("state(%d)", uint8(s))
	}
}

// Runs says that the replica's node runs it; else it deletes it.
func (s ReplicaState) Runs() bool { return s == ReplicaWanted || s == ReplicaLeaving }

// Replica says where a replica lies and what is wanted of it.
type Replica struct {
	ID    storage.ReplicaID
	Group storage.GroupID
	Node  identity.NodeID
	Role  Role
	// Leader says that the group should be led by this one.
	Leader bool
	State  ReplicaState
}

// Placement is what meta knows of a group as a whole.
type Placement struct {
	Group storage.GroupID
	// Version is the generation of the map that last changed the group's wish.
	Version uint64
	// Term and Reported are the last report's: the term of the leader that gave
	// it, and the version that it had seen.
	Term, Reported uint64
	// Settled says that the group was as the map wants it when it reported.
	Settled bool
	// Voters are those that the last report counted, ascending.
	Voters []storage.ReplicaID
}

// Moving says that the group is not yet as the map wants it, as far as meta
// has heard.
func (p *Placement) Moving() bool { return !p.Settled || p.Reported != p.Version }

func replicaRecord(r Replica) Record {
	b := binary.BigEndian.AppendUint32([]byte{version1}, uint32(r.Group))
	b = append(b, r.Node[:]...)
	return Record{replicaKey(r.ID), append(b, byte(r.Role), boolByte(r.Leader), byte(r.State))}
}

func replicaKey(id storage.ReplicaID) []byte {
	return binary.BigEndian.AppendUint64(key(tableReplica), uint64(id))
}

func parseReplica(k, b []byte) (Replica, error) {
	if len(k) != len(key(tableReplica))+8 {
		return Replica{}, errBroken
	}
	d := decode(b)
	r := Replica{ID: storage.ReplicaID(binary.BigEndian.Uint64(k[3:])), Group: storage.GroupID(d.u32()), Node: d.id()}
	r.Role, r.Leader = Role(d.oneOf(byte(Learner), byte(Voter))), d.bool()
	r.State = ReplicaState(d.oneOf(byte(ReplicaWanted), byte(ReplicaRetired)))
	return r, d.end()
}

func placementRecord(p Placement) Record {
	b := binary.BigEndian.AppendUint64([]byte{version1}, p.Version)
	b = binary.BigEndian.AppendUint64(b, p.Term)
	b = binary.BigEndian.AppendUint64(b, p.Reported)
	b = appendReplicas(append(b, boolByte(p.Settled)), p.Voters)
	return Record{binary.BigEndian.AppendUint32(key(tablePlacement), uint32(p.Group)), b}
}

func parsePlacement(k, b []byte) (Placement, error) {
	if len(k) != len(key(tablePlacement))+4 {
		return Placement{}, errBroken
	}
	d := decode(b)
	p := Placement{
		Group: storage.GroupID(binary.BigEndian.Uint32(k[3:])), Version: d.u64(), Term: d.u64(), Reported: d.u64(),
		Settled: d.bool(), Voters: d.replicas(),
	}
	return p, d.end()
}

func appendReplicas(b []byte, ids []storage.ReplicaID) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(ids)))
	for _, id := range ids {
		b = binary.BigEndian.AppendUint64(b, uint64(id))
	}
	return b
}

func (d *decoder) replicas() []storage.ReplicaID {
	n := int(d.u16())
	if n == 0 || n*8 > len(d.b) {
		d.bad = d.bad || n > 0
		return nil
	}
	ids := make([]storage.ReplicaID, n)
	for i := range ids {
		ids[i] = storage.ReplicaID(d.u64())
	}
	return ids
}
