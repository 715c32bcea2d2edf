package cluster

import (
	"errors"
	"fmt"

	"github.com/waystation/waystation/cluster/entrycache"
	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// AddGroup begins to run this node's replica of group g, with sm as its state
// machine. A replica that was here before goes on from its log and state. One
// that is new here makes the group, as its only voter, and leads as soon as the
// engine runs; it is recorded and synced first. It blocks for the disk.
//
// If log and state do not fit together, or either is damaged, the error is
// ErrQuarantined, and the group is there all the same, without doing anything:
// its Status says why, and RemoveGroup clears it away for a successor.
func (e *Engine) AddGroup(g storage.GroupID, id storage.ReplicaID, sm StateMachine) error {
	return e.addGroup(g, id, sm, false)
}

// JoinGroup is AddGroup for a replica that is new in a group which exists: it
// begins with nothing, takes part in no vote until its leader has sent it a
// snapshot, and is of use once a change of configuration has made it a learner.
// What a removed replica of the group left here is deleted first; sm must not
// have been used. It may be called again after a restart, as AddGroup may.
func (e *Engine) JoinGroup(g storage.GroupID, id storage.ReplicaID, sm StateMachine) error {
	return e.addGroup(g, id, sm, true)
}

func (e *Engine) addGroup(g storage.GroupID, id storage.ReplicaID, sm StateMachine, join bool) error {
	gr, err := e.prepare(g, id, sm, join)
	if err != nil && !errors.Is(err, ErrQuarantined) {
		return fmt.Errorf("add group %d: %w", g, err)
	}
	if err := e.publish(gr); err != nil {
		return fmt.Errorf("add group %d: %w", g, err)
	}
	if err != nil {
		gr.fail(err)
		return fmt.Errorf("add group %d: %w", g, err)
	}
	gr.post(func(in *input) { in.campaign = gr.status.Load().SoleVoter })
	if gr.extent.retained() > e.cfg.GroupLogBytes {
		e.truncator.check()
	}
	return nil
}

// publish puts a prepared group among those that run.
func (e *Engine) publish(gr *group) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.stopped:
		return ErrStopped
	case e.group(gr.id) != nil:
		return errRunning
	}
	gr.worker = e.workers[len(e.list())%len(e.workers)]
	e.insert(gr)
	return nil
}

var errRunning = errors.New("it runs already")

// prepare makes a group that does not run yet. With ErrQuarantined the group
// is there as well, to be refused.
func (e *Engine) prepare(g storage.GroupID, id storage.ReplicaID, sm StateMachine, join bool) (*group, error) {
	if e.group(g) != nil {
		return nil, errRunning
	}
	gr := &group{engine: e, id: g, replica: id, sm: sm, cache: entrycache.New(e.cfg.FollowerCacheBytes)}
	gr.status.Store(&published{})
	start, err := e.reconcile(gr, join)
	if err != nil {
		return gr, quarantine(err)
	}
	gr.applied.Store(start.Applied)
	gr.conf = start.Conf
	if gr.at, err = e.position(g, start); err != nil {
		return gr, quarantine(err)
	}
	gr.extent.found(start.Truncated.Index+1, start.Applied, e.cfg.Log.Bytes(g), max(1, min(e.cfg.GroupLogBytes/16, e.cfg.SettledLogBytes/64)))
	if gr.core, err = replica.New(e.coreConfig(gr, start)); err != nil {
		return nil, err
	}
	gr.publish(true)
	return gr, nil
}

// reconcile finds out from where a replica may run, and first brings the stores
// into that state.
func (e *Engine) reconcile(gr *group, join bool) (replica.Start, error) {
	found, err := find(e.cfg.Log, gr.id, gr.sm.Applied)
	if err != nil {
		return replica.Start{}, err
	}
	found.Join = join
	if why, err := quarantined(e.cfg.Log, gr.id, gr.replica); err != nil || why != "" {
		return replica.Start{}, errors.Join(err, fmt.Errorf("%w before: %s", ErrQuarantined, why))
	}
	start, err := replica.Reconcile(gr.replica, found)
	if err != nil {
		return start, err
	}
	if start.Fresh && found.Recorded {
		if err := e.clear(gr); err != nil {
			return start, err
		}
	}
	return start, e.record(gr, start)
}

// position is where the state is, with the term of the entry.
func (e *Engine) position(g storage.GroupID, s replica.Start) (storage.Position, error) {
	if s.Applied == s.Truncated.Index {
		return s.Truncated, nil
	}
	term, err := e.cfg.Log.Term(g, s.Applied)
	return storage.Position{Index: s.Applied, Term: term}, err
}

func (e *Engine) coreConfig(g *group, start replica.Start) replica.Config {
	c := replica.DefaultConfig()
	c.Group, c.ID = g.id, g.replica
	c.Start, c.Log, c.Cache = start, e.cfg.Log, g.cache
	c.ElectionTicks, c.HeartbeatTicks = e.cfg.ElectionTicks, e.cfg.HeartbeatTicks
	c.LateCommits = e.cfg.Watched == nil || !e.cfg.Watched(g.id)
	c.Logger = raftLogger{log: e.cfg.Logger.With("group", g.id)}
	return c
}

// find gathers what the two stores hold of a group.
func find(log *storage.Log, g storage.GroupID, applied func() (uint64, []byte, error)) (replica.Found, error) {
	var f replica.Found
	if err := log.Damaged(g); err != nil {
		return f, err
	}
	records, err := log.Replicas()
	if err != nil {
		return f, fmt.Errorf("read replica records: %w", err)
	}
	for _, r := range records {
		if r.Group == g {
			f.Recorded, f.Replica, f.Tombstone = true, r.Replica, r.State != storage.ReplicaLive
			f.Truncated = r.Truncated
		}
	}
	if f.HardState, err = log.HardState(g); err != nil {
		return f, err
	}
	if _, f.Last.Index = log.Bounds(g); f.Last.Index > 0 {
		if f.Last.Term, err = log.Term(g, f.Last.Index); err != nil {
			return f, err
		}
	}
	if f.Install, err = marker(log, g, f.Replica); err != nil {
		return f, err
	}
	if f.Applied, f.Conf, err = applied(); err != nil {
		return f, fmt.Errorf("read applied index: %w", err)
	}
	return f, nil
}

// marker returns the position of a snapshot that was being installed.
func marker(log *storage.Log, g storage.GroupID, id storage.ReplicaID) (storage.Position, error) {
	all, err := log.Installs()
	for _, i := range all {
		if i.Group == g && i.Replica == id {
			return i.To, err
		}
	}
	return storage.Position{}, err
}

// record writes what must be on disk before a replica runs: for a new one its
// creation record, from which on this node may vote in the group.
func (e *Engine) record(gr *group, s replica.Start) error {
	if err := e.unstage(gr); err != nil {
		return err
	}
	batch := e.cfg.Log.NewBatch()
	switch {
	case s.Fresh:
		batch.PutReplica(storage.ReplicaMeta{Group: gr.id, Replica: gr.replica, State: storage.ReplicaLive, Truncated: s.Truncated})
		batch.SetHardState(gr.id, s.HardState)
	case s.Redo:
		batch.Reset(gr.id, s.Truncated, s.HardState)
	case s.Drop:
		batch.DropInstall(gr.id)
	default:
		batch.Discard()
		return nil
	}
	if err := batch.Commit(true); err != nil {
		return e.broken(fmt.Errorf("record replica %d: %w", gr.replica, err))
	}
	return nil
}

// FirstIndex is the index of the first entry of a new group.
const FirstIndex = 6
