package replica

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/storage"
)

// unplaced is a proposed entry that has not yet come out of Ready.
const unplaced = math.MaxUint64

// ProposeConf appends a change of the configuration if this replica leads in
// term, under ErrNotLeader and ErrDropped as in Propose. ErrConf says that the
// change makes no sense, or that the one before is not yet applied here: raft
// itself would put an empty entry in its place; or that too few voters know of
// that one.
//
// A change that takes a vote away is made one that goes through a joint
// configuration: see judge.
func (r *Replica) ProposeConf(term uint64, cc *pb.ConfChangeV2) error {
	s := r.rn.BasicStatus()
	if s.RaftState != raft.StateLeader || s.GetTerm() != term {
		return ErrNotLeader
	}
	if r.termStart == 0 || s.Applied < r.termStart || r.leaving || r.changingTerm == term && s.Applied < r.changing {
		return fmt.Errorf("%w: an earlier one is under way", ErrConf)
	}
	if r.conf.Joint() != cc.LeaveJoint() {
		return fmt.Errorf("%w: a joint configuration is left before the next change", ErrConf)
	}
	if !r.anchored() {
		return fmt.Errorf("%w: too few voters know of the one before", ErrConf)
	}
	next, refused := r.conf.Next(cc)
	if refused != nil {
		return refused
	}
	if !r.conf.Joint() && !next.Joint() && r.conf.losesVotes(next) {
		cc.Transition = pb.ConfChangeTransitionJointImplicit.Enum()
	}
	err := r.rn.ProposeConfChange(cc)
	if errors.Is(err, raft.ErrProposalDropped) {
		return ErrDropped
	}
	if err == nil {
		r.changing, r.changingTerm = unplaced, term
	}
	return err
}

// applyConf has raft switch to the configuration that the apply loop stored.
func (r *Replica) applyConf(e *storage.Entry) {
	cc, err := ConfChange(e)
	if err != nil {
		panic(err) // the apply loop would not have come past it
	}
	next, refused := r.conf.Next(cc)
	if refused != nil {
		return
	}
	if got := fromConfState(r.rn.ApplyConfChange(cc)); !got.Equal(next) {
		panic(fmt.Sprintf("entry %d changes the configuration to %v, raft says %v", e.Index, next, got))
	}
	before := r.conf
	r.conf = &next
	if r.change.Leads && !next.Joint() && before.losesVotes(next) {
		r.anchor = r.log.written
		r.seekAnchor()
	}
}

// handOn has a leader that is to vote no more begin to hand over before it hears
// that its joint configuration can be left: until it has, raft leaves none. It
// would step down where the change is applied, with entries behind it that nobody
// else has; and those that do not know yet that it is committed need its vote,
// which it gives to nobody whose log ends before its own.
func (r *Replica) handOn() {
	if !r.conf.Joint() || !r.conf.AutoLeave || slices.Contains(r.conf.Voters, r.cfg.ID) {
		return
	}
	var to Progress
	for _, p := range r.Progress() {
		if !slices.Contains(r.conf.Voters, p.Replica) {
			continue
		}
		if to.Replica == 0 || p.Active && !to.Active || p.Active == to.Active && p.Match > to.Match {
			to = p
		}
	}
	if to.Replica != 0 {
		r.rn.TransferLeader(uint64(to.Replica))
	}
}

// anchored says that the last change which took a vote away is known to a
// majority of the voters who are left, on their disks. Before, they may need the
// votes of those who went: to elect somebody who then finds out. So nobody is
// reported out, and nothing else is changed.
//
// An entry that was proposed after the change was applied here is sent with a
// commit index that covers the change, and both are written together: once it is
// committed, the change is known. The first entry of a term is such a one, too.
func (r *Replica) anchored() bool { return r.anchor == 0 || r.hard.Commit > r.anchor }

// seekAnchor proposes an empty entry where none would come. It may be dropped, as
// while the leadership is handed over.
func (r *Replica) seekAnchor() {
	if r.anchor != 0 && r.log.written == r.anchor && !r.anchored() {
		_ = r.rn.Propose(nil)
	}
}

// keepCommit has the commit index written, with a sync, when it says that a
// configuration is in force. Elsewhere it goes along with the next append; but
// who is left alone by a configuration, and forgets in a crash that it was
// committed, would wait for votes of those who were deleted since.
func (r *Replica) keepCommit(jobs *Jobs) {
	if jobs.Apply == nil || !slices.ContainsFunc(jobs.Apply.Entries, changesMembers) {
		return
	}
	if jobs.Append == nil {
		if !r.hardDirty {
			return
		}
		jobs.Append = &AppendJob{}
	}
	jobs.Append.Sync = true
	if r.hardDirty {
		hard := r.hard
		jobs.Append.HardState, r.hardDirty = &hard, false
	}
}

func changesMembers(e storage.Entry) bool { return pb.EntryType(e.Type) != pb.EntryNormal }

// placeChange notes where the newest change of configuration is in the log. One
// of raft's own counts too: it would put an empty entry in the place of another
// one beside it, and nobody would ever hear what became of that.
func (r *Replica) placeChange(ents []storage.Entry) {
	for i := range ents {
		if IsConfChange(&ents[i]) {
			r.changing, r.changingTerm = ents[i].Index, ents[i].Term
		}
	}
}
