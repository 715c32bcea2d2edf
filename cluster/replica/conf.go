package replica

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/confchange"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/storage"
)

// Conf says which replicas a group has. It is what raft calls a ConfState, in
// a form that can be compared and kept; all lists are in order.
type Conf struct {
	// Voters decide. While a joint change is under way, a majority of Outgoing,
	// the voters before the change, is needed as well.
	Voters, Outgoing []storage.ReplicaID
	// Learners get the log and do not vote. LearnersNext become learners when
	// the joint change ends; they are still in Outgoing.
	Learners, LearnersNext []storage.ReplicaID
	// AutoLeave says that the leader ends the joint change by itself.
	AutoLeave bool
}

// SoleVoter is the configuration of a new group.
func SoleVoter(id storage.ReplicaID) Conf { return Conf{Voters: []storage.ReplicaID{id}} }

// Empty says that there are no voters: a replica that has not yet been told.
func (c Conf) Empty() bool { return len(c.Voters) == 0 }

// Joint says that a joint change is under way.
func (c Conf) Joint() bool { return len(c.Outgoing) > 0 }

// Votes says whether id is a voter, before or after a joint change.
func (c Conf) Votes(id storage.ReplicaID) bool {
	return slices.Contains(c.Voters, id) || slices.Contains(c.Outgoing, id)
}

// Has says whether id belongs to the group.
func (c Conf) Has(id storage.ReplicaID) bool {
	return c.Votes(id) || slices.Contains(c.Learners, id)
}

// losesVotes says that somebody votes in c, and not in next.
func (c Conf) losesVotes(next Conf) bool {
	gone := func(id storage.ReplicaID) bool { return !slices.Contains(next.Voters, id) }
	return slices.ContainsFunc(c.Voters, gone) || slices.ContainsFunc(c.Outgoing, gone)
}

// Equal says whether two configurations are the same.
func (c Conf) Equal(o Conf) bool {
	return slices.Equal(c.Voters, o.Voters) && slices.Equal(c.Outgoing, o.Outgoing) &&
		slices.Equal(c.Learners, o.Learners) && slices.Equal(c.LearnersNext, o.LearnersNext) &&
		c.AutoLeave == o.AutoLeave
}

// ParseConf reads what Marshal wrote; nothing gives an empty configuration.
func ParseConf(b []byte) (Conf, error) {
	var cs pb.ConfState
	if err := proto.Unmarshal(b, &cs); err != nil {
		return Conf{}, fmt.Errorf("parse configuration: %w", err)
	}
	return fromConfState(&cs), nil
}

// Marshal returns the configuration as it is kept in the state, a
// raftpb.ConfState: the same bytes for the same configuration.
func (c Conf) Marshal() []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c.State())
	if err != nil {
		panic(fmt.Sprintf("marshal configuration: %v", err)) // integers only: cannot fail
	}
	return b
}

// State returns the configuration as raft wants it.
func (c Conf) State() *pb.ConfState {
	cs := &pb.ConfState{
		Voters: numbers(c.Voters), VotersOutgoing: numbers(c.Outgoing),
		Learners: numbers(c.Learners), LearnersNext: numbers(c.LearnersNext),
	}
	if c.AutoLeave {
		cs.AutoLeave = new(true)
	}
	return cs
}

func fromConfState(cs *pb.ConfState) Conf {
	return Conf{
		Voters: ids(cs.GetVoters()), Outgoing: ids(cs.GetVotersOutgoing()),
		Learners: ids(cs.GetLearners()), LearnersNext: ids(cs.GetLearnersNext()),
		AutoLeave: cs.GetAutoLeave(),
	}
}

func numbers(in []storage.ReplicaID) []uint64 {
	var out []uint64
	for _, id := range in {
		out = append(out, uint64(id))
	}
	return out
}

func ids(in []uint64) []storage.ReplicaID {
	var out []storage.ReplicaID
	for _, id := range in {
		out = append(out, storage.ReplicaID(id))
	}
	slices.Sort(out)
	return out
}

// IsConfChange says whether an entry changes the configuration.
func IsConfChange(e *storage.Entry) bool { return e.Type != uint8(pb.EntryNormal) }

// ConfChange reads the change that a committed entry asks for. One that raft
// made by itself, to leave a joint configuration, has no data.
func ConfChange(e *storage.Entry) (*pb.ConfChangeV2, error) {
	cc := &pb.ConfChangeV2{}
	if e.Type != uint8(pb.EntryConfChangeV2) {
		return nil, fmt.Errorf("read change of configuration: entry %d is of type %d", e.Index, e.Type)
	}
	if err := proto.Unmarshal(e.Data, cc); err != nil {
		return nil, fmt.Errorf("read change of configuration: entry %d: %w", e.Index, err)
	}
	return cc, nil
}

// Next returns the configuration after a change. It depends on nothing else, so
// that every replica comes to the same one: the apply loop, which stores it
// with the entry's index, and the core, which makes raft switch to it. A change
// that makes no sense (a joint one in a joint configuration, one that leaves no
// voter) changes nothing on any replica, and refused says why.
func (c Conf) Next(cc *pb.ConfChangeV2) (next Conf, refused error) {
	if t := cc.GetTransition(); t < pb.ConfChangeTransitionAuto || t > pb.ConfChangeTransitionJointExplicit {
		return c, fmt.Errorf("%w: transition %d", ErrConf, t)
	}
	changer, err := c.changer()
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrConf, err)
	}
	var cfg tracker.Config
	auto, joint := cc.EnterJoint()
	switch {
	case cc.LeaveJoint():
		cfg, _, err = changer.LeaveJoint()
	case joint:
		cfg, _, err = changer.EnterJoint(auto, cc.GetChanges()...)
	default:
		cfg, _, err = changer.Simple(cc.GetChanges()...)
	}
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrConf, err)
	}
	t := tracker.ProgressTracker{Config: cfg}
	return fromConfState(t.ConfState()), nil
}

func (c Conf) changer() (confchange.Changer, error) {
	changer := confchange.Changer{Tracker: tracker.MakeProgressTracker(1, 0)}
	cfg, progress, err := confchange.Restore(changer, c.State())
	changer.Tracker.Config, changer.Tracker.Progress = cfg, progress
	return changer, err
}

// String lists the replicas: voters, then "&" and the outgoing ones, then
// learners, and those that become learners.
func (c Conf) String() string {
	s := fmt.Sprint("voters ", c.Voters)
	if c.Joint() {
		s += fmt.Sprint(" & ", c.Outgoing)
	}
	if len(c.Learners) > 0 {
		s += fmt.Sprint(" learners ", c.Learners)
	}
	if len(c.LearnersNext) > 0 {
		s += fmt.Sprint(" learners next ", c.LearnersNext)
	}
	return s
}
