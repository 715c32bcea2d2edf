package cluster

import (
	"errors"
	"fmt"

	"github.com/waystation/waystation/cluster/entrycache"
	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// AddGroup begins to run this node's replica of group g, with sm as its state
// machine. A replica that is new here is recorded and synced first; one that
// was here before goes on from its log and state, or is refused with
// ErrQuarantined if these do not fit together. The replica is its group's only
// voter, so that it leads as soon as the engine runs. It blocks for the disk.
func (e *Engine) AddGroup(g storage.GroupID, id storage.ReplicaID, sm StateMachine) error {
	gr, err := e.prepare(g, id, sm)
	if err != nil {
		return fmt.Errorf("add group %d: %w", g, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.stopped:
		return fmt.Errorf("add group %d: %w", g, ErrStopped)
	case e.group(g) != nil:
		return fmt.Errorf("add group %d: it runs already", g)
	}
	gr.worker = e.workers[len(e.list())%len(e.workers)]
	e.insert(gr)
	gr.post(func(in *input) { in.campaign = gr.sole })
	if gr.extent.retained() > e.cfg.GroupLogBytes {
		e.truncator.check()
	}
	return nil
}

// prepare makes a group that does not run yet.
func (e *Engine) prepare(g storage.GroupID, id storage.ReplicaID, sm StateMachine) (*group, error) {
	if e.group(g) != nil {
		return nil, errors.New("it runs already")
	}
	found, err := e.find(g, sm)
	if err != nil {
		return nil, err
	}
	start, err := replica.Reconcile(id, found)
	if err != nil {
		return nil, err
	}
	if start.Fresh {
		if err := e.record(g, id, start); err != nil {
			return nil, err
		}
	}
	gr := &group{engine: e, id: g, replica: id, sm: sm, cache: entrycache.New(e.cfg.CacheBytes)}
	gr.applied.Store(start.Applied)
	gr.extent.found(start.Truncated.Index+1, start.Applied, e.cfg.Log.Bytes(g), max(1, min(e.cfg.GroupLogBytes/16, e.cfg.SettledLogBytes/64)))
	if gr.core, err = replica.New(e.coreConfig(gr, start)); err != nil {
		return nil, err
	}
	gr.sole = gr.core.SoleVoter()
	gr.publish()
	return gr, nil
}

func (e *Engine) coreConfig(g *group, start replica.Start) replica.Config {
	c := replica.DefaultConfig()
	c.Group, c.ID, c.Voters = g.id, g.replica, []storage.ReplicaID{g.replica}
	c.Start, c.Log, c.Cache = start, e.cfg.Log, g.cache
	c.ElectionTicks, c.HeartbeatTicks = e.cfg.ElectionTicks, e.cfg.HeartbeatTicks
	c.Logger = raftLogger{log: e.cfg.Logger.With("group", g.id)}
	return c
}

// find gathers what the two stores hold of a group.
func (e *Engine) find(g storage.GroupID, sm StateMachine) (replica.Found, error) {
	var f replica.Found
	records, err := e.cfg.Log.Replicas()
	if err != nil {
		return f, fmt.Errorf("read replica records: %w", err)
	}
	for _, r := range records {
		if r.Group == g {
			f.Recorded, f.Replica, f.Tombstone = true, r.Replica, r.State != storage.ReplicaLive
			f.Truncated = r.Truncated
		}
	}
	if f.HardState, err = e.cfg.Log.HardState(g); err != nil {
		return f, err
	}
	if _, f.Last.Index = e.cfg.Log.Bounds(g); f.Last.Index > 0 {
		if f.Last.Term, err = e.cfg.Log.Term(g, f.Last.Index); err != nil {
			return f, err
		}
	}
	if f.Applied, err = sm.Applied(); err != nil {
		return f, fmt.Errorf("read applied index: %w", err)
	}
	return f, nil
}

// record writes the creation record of a new replica and syncs it: from then
// on this node may vote in the group.
func (e *Engine) record(g storage.GroupID, id storage.ReplicaID, s replica.Start) error {
	batch := e.cfg.Log.NewBatch()
	batch.PutReplica(storage.ReplicaMeta{Group: g, Replica: id, State: storage.ReplicaLive, Truncated: s.Truncated})
	batch.SetHardState(g, s.HardState)
	if err := batch.Commit(true); err != nil {
		err = fmt.Errorf("record replica %d: %w", id, err)
		e.fatal(err)
		return err
	}
	return nil
}

// FirstIndex is the index of the first entry of a new group.
const FirstIndex = 6
