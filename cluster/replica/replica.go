package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

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
	// late are appends without entries, at most one a peer, see hurries.
	late []*pb.Message

	// conf is what raft runs under.
	conf *Conf // never changed, only replaced
	// changing is the index of the last change of configuration that was
	// proposed here, in changingTerm, by the caller or by raft itself.
	changing, changingTerm uint64
	// anchor is the index behind which something must be committed, see anchored;
	// 0 if nothing.
	anchor uint64
	// leaving says that raft may have proposed to leave the joint configuration
	// since the last Ready.
	leaving bool
	// ticks ever counted, and at which of them each peer was last heard.
	ticks uint64
	heard map[uint64]uint64
	// vouched is the highest index up to which the state is known to be durable;
	// told is how far the leader lets its followers truncate.
	vouched, told uint64
	// heir is set for a while after the leader's process has ended.
	heir *heir
	// snapshotAfter is the tick before which no snapshot is asked for.
	snapshotAfter uint64
}

// New makes a replica from cfg, which must be valid.
func New(cfg Config) (*Replica, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make replica: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = silent{}
	}
	log := &logView{
		group: cfg.Group, reader: cfg.Log, cache: cfg.Cache,
		truncated: cfg.Start.Truncated, written: cfg.Start.Last.Index, start: cfg.Start,
	}
	r := &Replica{cfg: cfg, log: log, hard: cfg.Start.HardState, conf: &cfg.Start.Conf, heard: map[uint64]uint64{}}
	log.snapshot = r.snapshot
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
	r.rn = rn
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

// TransferLeader hands leadership over to another voter, once that has the
// whole log. Until it has, or an election timeout has passed, proposals are
// dropped.
func (r *Replica) TransferLeader(to storage.ReplicaID) error {
	if r.rn.BasicStatus().RaftState != raft.StateLeader {
		return ErrNotLeader
	}
	r.rn.TransferLeader(uint64(to))
	return nil
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
// to the replica from then on. A snapshot's comes through StepSnapshot.
func (r *Replica) Step(m *pb.Message) error {
	if m.GetType() == pb.MsgSnap {
		return fmt.Errorf("step message from replica %d: %w", m.GetFrom(), ErrSnapshot)
	}
	return r.step(m)
}

func (r *Replica) step(m *pb.Message) error {
	if m.GetTo() != uint64(r.cfg.ID) {
		// Raft does not look: it would believe what was said to a replica that
		// was here before and is gone.
		return fmt.Errorf("step message from replica %d: %w: it is for replica %d", m.GetFrom(), ErrMisdirected, m.GetTo())
	}
	r.hear(m.GetFrom())
	r.judge(m)
	if err := r.rn.Step(m); err != nil {
		return fmt.Errorf("step message from replica %d: %w", m.GetFrom(), err)
	}
	if m.GetType() == pb.MsgHeartbeat && r.rn.BasicStatus().Lead == m.GetFrom() {
		r.told = m.GetIndex()
	}
	return nil
}

// hear notes that a replica lives.
func (r *Replica) hear(from uint64) { r.heard[from] = r.ticks }

// Tick lets n ticks pass, but only a fifth of an election timeout at a time:
// who was stalled has not waited for a leader all that while.
func (r *Replica) Tick(n int) { r.tick(min(n, r.cfg.maxTicks())) }

// Calm says that ticks may be counted late, with Late: of a follower that has just
// heard its leader, and of a leader that keeps nothing back for its next tick.
func (r *Replica) Calm() bool {
	switch {
	case r.change.Leads:
		return len(r.late) == 0
	case r.change.Leader == 0:
		return false
	}
	at, heard := r.heard[uint64(r.change.Leader)]
	return heard && at == r.ticks
}

// Late counts n ticks that passed while the replica was calm, before it is given
// what came meanwhile. They never suffice for an election: the leader may be among
// what came.
func (r *Replica) Late(n int) { r.tick(min(n, max(0, r.cfg.ElectionTicks-2))) }

func (r *Replica) tick(n int) {
	for range n {
		r.ticks++
		r.rn.Tick()
		r.inherit()
	}
	r.seekAnchor()
	if n > 0 && len(r.late) > 0 {
		r.outbox = append(r.outbox, r.late...)
		r.late = nil
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
	return len(r.conf.Voters) == 1 && r.conf.Voters[0] == r.cfg.ID && !r.conf.Joint()
}

// Alone says that this replica is the group's only one: there is nobody to
// send a heartbeat to.
func (r *Replica) Alone() bool { return r.SoleVoter() && len(r.conf.Learners) == 0 }

// Conf is the configuration that raft runs under: that of the last change which
// was reported as applied.
func (r *Replica) Conf() Conf { return *r.conf }

// Fault is the last error of the disk, of which a panic of raft has only the
// text.
func (r *Replica) Fault() error { return r.log.fault }

// Appended says that job and all append jobs before it are on disk.
func (r *Replica) Appended(job *AppendJob) {
	if n := len(job.Entries); n > 0 && invariant.Broken(invariant.StaleTail) {
		r.log.confirmed = job.Entries[n-1].Index
	}
	r.deliver(job.responses)
}

// Applied says that job and all apply jobs before it are applied.
func (r *Replica) Applied(job *ApplyJob) {
	for i := range job.Entries {
		if IsConfChange(&job.Entries[i]) {
			r.applyConf(&job.Entries[i])
		}
	}
	r.handOn()
	r.deliver(job.responses)
	r.leaving = r.conf.Joint() && r.conf.AutoLeave
}

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
	r.leaving = false
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
			r.post(m, &jobs)
		}
	}
	r.keepCommit(&jobs)
	for _, s := range rd.ReadStates {
		jobs.Reads = append(jobs.Reads, Read{ID: binary.BigEndian.Uint64(s.RequestCtx), Index: s.Index})
	}
	jobs.Send, r.outbox = r.outbox, nil
	r.releaseReads()
	return jobs, true
}

// post puts a message of raft's where it belongs.
func (r *Replica) post(m *pb.Message, jobs *Jobs) {
	switch m.GetType() {
	case pb.MsgSnap:
		jobs.Snapshots = append(jobs.Snapshots, m)
		return
	case pb.MsgHeartbeat:
		// Raft does not use a heartbeat's index.
		m.Index = new(r.bound())
	case pb.MsgApp:
		if r.cfg.LateCommits && !r.hurries(m) {
			return
		}
	}
	r.outbox = append(r.outbox, m)
}

// hurries says whether an append is to be sent at once. One without entries is
// kept until the next tick: most of them say no more than what is committed, and
// under load the next entry comes long before, says it as well, and saves the
// peer a message, its answer, and two wake-ups. The few with which raft asks for
// a peer's place in the log come after a heartbeat's answer, and lose a tick.
func (r *Replica) hurries(m *pb.Message) bool {
	at := slices.IndexFunc(r.late, func(l *pb.Message) bool { return l.GetTo() == m.GetTo() })
	switch empty := len(m.Entries) == 0; {
	case empty && at >= 0:
		r.late[at] = m
		return false
	case empty:
		r.late = append(r.late, m)
		return false
	case at >= 0:
		r.late = slices.Delete(r.late, at, at+1)
	}
	return true
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
	r.termStart, r.anchor, r.held, r.late = 0, 0, nil, nil
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
	snap := m.GetSnapshot()
	sync = sync || !raft.IsEmptySnap(snap)
	if !sync && len(m.GetResponses()) == 0 {
		return nil
	}
	job := &AppendJob{Entries: fromRaft(m.GetEntries()), Sync: sync, responses: m.GetResponses()}
	if invariant.Broken(invariant.AckEarly) {
		job.responses = nil
		r.deliver(m.GetResponses())
	}
	if !raft.IsEmptySnap(snap) {
		in := InstallOf(snap)
		job.Install, r.conf, r.hardDirty = &in, &in.Conf, true
		r.log.install(in.To)
	}
	r.placeChange(job.Entries)
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
