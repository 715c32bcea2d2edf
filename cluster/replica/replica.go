package replica

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/waystation/waystation/internal/invariant"
	"github.com/waystation/waystation/storage"
)

// Replica is one raft replica. See the package documentation for who may call
// what when.
type Replica struct {
	cfg Config
	rn  *raft.RawNode
	log *logView

	// hard is the newest hard state; hardDirty that it is not yet handed out
	// for writing.
	hard      storage.HardState
	hardDirty bool
	change    Change
	// termStart is the index of the first entry of the own term while this
	// replica leads.
	termStart uint64
	// held reads wait until termStart is committed.
	held []uint64
	// outbox are messages to peers that waited for an append.
	outbox []*pb.Message
}

// New makes a replica from cfg, which must be valid.
func New(cfg Config) (*Replica, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make replica: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = silent{}
	}
	voters := make([]uint64, len(cfg.Voters))
	for i, v := range cfg.Voters {
		voters[i] = uint64(v)
	}
	log := &logView{
		group: cfg.Group, reader: cfg.Log, cache: cfg.Cache, voters: voters,
		truncated: cfg.Start.Truncated, written: cfg.Start.Last.Index, start: cfg.Start,
	}
	rn, err := raft.NewRawNode(&raft.Config{
		ID:                        uint64(cfg.ID),
		ElectionTick:              cfg.ElectionTicks,
		HeartbeatTick:             cfg.HeartbeatTicks,
		Storage:                   log,
		Applied:                   cfg.Start.Applied,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             cfg.MaxMessageBytes,
		MaxCommittedSizePerReady:  cfg.MaxApplyingBytes,
		MaxUncommittedEntriesSize: cfg.MaxUncommittedBytes,
		MaxInflightMsgs:           cfg.MaxInflightMessages,
		CheckQuorum:               true,
		PreVote:                   true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		DisableProposalForwarding: true,
		StepDownOnRemoval:         true,
		Logger:                    cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("make replica: %w", err)
	}
	r := &Replica{cfg: cfg, rn: rn, log: log, hard: cfg.Start.HardState}
	r.change.Term = r.hard.Term
	return r, nil
}

// Propose appends data as one entry if this replica leads in term. data is
// copied. ErrNotLeader and ErrDropped both say that nothing was proposed.
func (r *Replica) Propose(term uint64, data []byte) error {
	if s := r.rn.BasicStatus(); s.RaftState != raft.StateLeader || s.GetTerm() != term {
		return ErrNotLeader
	}
	err := r.rn.Propose(data)
	if errors.Is(err, raft.ErrProposalDropped) {
		return ErrDropped
	}
	return err
}

// ReadIndex asks for a read that sees all that is committed now. It appears in
// Jobs.Reads under id, or never if leadership is lost: the caller gives its
// reads up when Jobs.Change says so.
func (r *Replica) ReadIndex(id uint64) error {
	if r.rn.BasicStatus().RaftState != raft.StateLeader {
		return ErrNotLeader
	}
	r.held = append(r.held, id)
	r.releaseReads()
	return nil
}

// Step takes a message from another replica of the group. The message belongs
// to the replica from then on.
func (r *Replica) Step(m *pb.Message) error {
	if m.GetType() == pb.MsgSnap {
		return fmt.Errorf("step message from replica %d: %w", m.GetFrom(), ErrSnapshot)
	}
	if err := r.rn.Step(m); err != nil {
		return fmt.Errorf("step message from replica %d: %w", m.GetFrom(), err)
	}
	return nil
}

// Tick lets n ticks pass, but only a fifth of an election timeout at a time:
// who was stalled has not waited for a leader all that while.
func (r *Replica) Tick(n int) {
	for range min(n, r.cfg.maxTicks()) {
		r.rn.Tick()
	}
}

// Campaign starts an election now. A sole voter does it when it starts, so
// that it need not wait for a leader who cannot come.
func (r *Replica) Campaign() error {
	if err := r.rn.Campaign(); err != nil {
		return fmt.Errorf("campaign: %w", err)
	}
	return nil
}

// SoleVoter says that this replica is the group's only voter.
func (r *Replica) SoleVoter() bool {
	return len(r.log.voters) == 1 && r.log.voters[0] == uint64(r.cfg.ID)
}

// Appended says that job and all append jobs before it are on disk.
func (r *Replica) Appended(job *AppendJob) {
	if n := len(job.Entries); n > 0 && invariant.Broken(invariant.StaleTail) {
		r.log.confirmed = job.Entries[n-1].Index
	}
	r.deliver(job.responses)
}

// Applied says that job and all apply jobs before it are applied.
func (r *Replica) Applied(job *ApplyJob) { r.deliver(job.responses) }

func (r *Replica) deliver(ms []*pb.Message) {
	for _, m := range ms {
		if m.GetTo() != uint64(r.cfg.ID) {
			r.outbox = append(r.outbox, m)
			continue
		}
		// The only errors are about messages that may not come from outside.
		_ = r.rn.Step(m)
	}
}

// Ready returns what is to be done next, and false if there is nothing. It is
// called until it says so, after any other call.
func (r *Replica) Ready() (Jobs, bool) {
	if !r.rn.HasReady() {
		return r.flushOutbox()
	}
	rd := r.rn.Ready()
	var jobs Jobs
	sync := r.takeHardState(rd.HardState) || len(rd.Entries) > 0
	jobs.Change = r.takeChange(rd)
	for _, m := range rd.Messages {
		switch m.GetTo() {
		case raft.LocalAppendThread:
			jobs.Append = r.appendJob(m, sync)
		case raft.LocalApplyThread:
			jobs.Apply = &ApplyJob{Entries: fromRaft(m.GetEntries()), responses: m.GetResponses()}
		default:
			r.outbox = append(r.outbox, m)
		}
	}
	for _, s := range rd.ReadStates {
		jobs.Reads = append(jobs.Reads, Read{ID: binary.BigEndian.Uint64(s.RequestCtx), Index: s.Index})
	}
	jobs.Send, r.outbox = r.outbox, nil
	r.releaseReads()
	return jobs, true
}

func (r *Replica) flushOutbox() (Jobs, bool) {
	if len(r.outbox) == 0 {
		return Jobs{}, false
	}
	jobs := Jobs{Send: r.outbox}
	r.outbox = nil
	return jobs, true
}

// takeHardState says whether term or vote changed, which must be synced.
func (r *Replica) takeHardState(hs *pb.HardState) bool {
	if raft.IsEmptyHardState(hs) {
		return false
	}
	next := storage.HardState{Term: hs.GetTerm(), Vote: hs.GetVote(), Commit: hs.GetCommit()}
	promised := next.Term != r.hard.Term || next.Vote != r.hard.Vote
	r.hard, r.hardDirty = next, true
	return promised
}

func (r *Replica) takeChange(rd raft.Ready) *Change {
	next := r.change
	next.Term = r.hard.Term
	if rd.SoftState != nil {
		next.Leader = storage.ReplicaID(rd.Lead)
		next.Leads = rd.RaftState == raft.StateLeader
	}
	if next == r.change {
		return nil
	}
	r.change = next
	r.termStart, r.held = 0, nil
	if next.Leads {
		// A leader's first entry comes with the ready that announces it, unless
		// it was only the leader's name that had not been known.
		r.termStart = firstOfTerm(rd.Entries, next.Term)
	}
	return &next
}

func firstOfTerm(ents []*pb.Entry, term uint64) uint64 {
	for _, e := range ents {
		if e.GetTerm() == term {
			return e.GetIndex()
		}
	}
	return 0
}

// appendJob takes over what is to be written, or returns nil if that is
// nothing but a commit index for which nobody waits: it then goes along with
// the next job.
func (r *Replica) appendJob(m *pb.Message, sync bool) *AppendJob {
	if !sync && len(m.GetResponses()) == 0 {
		return nil
	}
	job := &AppendJob{Entries: fromRaft(m.GetEntries()), Sync: sync, responses: m.GetResponses()}
	if invariant.Broken(invariant.AckEarly) {
		job.responses = nil
		r.deliver(m.GetResponses())
	}
	job.StaleFrom, job.StaleTo = r.log.append(m.GetEntries())
	if sync && r.hardDirty {
		hard := r.hard
		job.HardState, r.hardDirty = &hard, false
	}
	return job
}

// releaseReads hands the held reads to raft once an entry of the own term is
// committed. Raft does this by itself only where there is more than one voter.
func (r *Replica) releaseReads() {
	if len(r.held) == 0 || r.termStart == 0 || r.hard.Commit < r.termStart {
		return
	}
	for _, id := range r.held {
		r.rn.ReadIndex(binary.BigEndian.AppendUint64(nil, id))
	}
	r.held = r.held[:0]
}

// Truncate cuts the log off up to at most upTo, and returns what is to be
// written, or false if nothing can go. The caller vouches that the state up to
// upTo is durable. A leader keeps what a voter still lacks; a follower among
// several voters does not know what they lack, and keeps everything.
func (r *Replica) Truncate(upTo uint64) (TruncateJob, bool, error) {
	s := r.rn.BasicStatus()
	upTo = min(upTo, s.Applied, r.log.written)
	if !r.SoleVoter() {
		if s.RaftState != raft.StateLeader {
			return TruncateJob{}, false, nil
		}
		r.rn.WithProgress(func(_ uint64, _ raft.ProgressType, pr tracker.Progress) {
			upTo = min(upTo, pr.Match)
		})
	}
	if upTo <= r.log.truncated.Index {
		return TruncateJob{}, false, nil
	}
	term, err := r.log.Term(upTo)
	if err != nil {
		return TruncateJob{}, false, fmt.Errorf("truncate log to %d: %w", upTo, err)
	}
	// The bound moves before the log does: who reads below it from now on is
	// told ErrCompacted, however far the writing has come.
	r.log.truncated = storage.Position{Index: upTo, Term: term}
	return TruncateJob{To: r.log.truncated}, true, nil
}

// Status is a view of a replica.
type Status struct {
	Change
	Commit, Applied uint64
	// First and Last bound the log; it is empty when First is Last+1.
	First, Last uint64
}

// Status returns the replica's state as it last came out of Ready.
func (r *Replica) Status() Status {
	return Status{
		Change: r.change, Commit: r.hard.Commit, Applied: r.rn.BasicStatus().Applied,
		First: r.log.truncated.Index + 1, Last: r.log.written,
	}
}
