package cluster

import (
	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// Status is what the engine knows of one group. Its parts are read one after
// the other while the group runs on.
type Status struct {
	Group   storage.GroupID
	Replica storage.ReplicaID
	// Leader is the leading replica, 0 while none is known; Leads says that it
	// is this one, in Term.
	Leader storage.ReplicaID
	Leads  bool
	Term   uint64
	// Opened says that it leads and that Conf has in it all that earlier leaders
	// changed: the first entry of Term is applied. If the last change took a vote
	// away, enough of the voters know of it for those who went to be deleted.
	Opened bool
	// Commit is the last index known to be committed, Applied the last one
	// applied here.
	Commit, Applied uint64
	// First and Last bound the log: it is empty when First is Last+1.
	First, Last uint64
	// LogBytes is what the group's entries take in the log.
	LogBytes int64
	// CacheBytes is what of them is kept in memory.
	CacheBytes int64
	// Conf is the group's replicas as raft here sees them: those of the last
	// change that is applied.
	Conf replica.Conf
	// Progress is what the leader knows of the other replicas, by their ids, as
	// of its last tick; nil elsewhere. It must not be changed.
	Progress []replica.Progress
	// Err says why the replica runs no more, nil while it runs: ErrQuarantined if
	// it must be replaced.
	Err error
}

// Status returns the state of group g; Err is ErrNoGroup if there is none.
func (e *Engine) Status(id storage.GroupID) Status {
	g := e.group(id)
	if g == nil {
		return Status{Group: id, Err: ErrNoGroup}
	}
	s := g.status.Load()
	out := Status{
		Group: id, Replica: g.replica, Leader: s.Leader, Term: s.Term,
		Commit: s.Commit, Applied: g.applied.Load(), First: s.First, Last: s.Last,
		LogBytes: e.cfg.Log.Bytes(id), CacheBytes: g.cache.Bytes(),
		Progress: s.progress,
	}
	if s.Conf != nil {
		out.Conf = *s.Conf
	}
	out.Leads = g.leads.Load() == s.Term && s.Leads
	out.Opened = out.Leads && s.Opened
	if f := g.failure.Load(); f != nil {
		out.Err, out.Leads, out.Opened, out.Leader, out.Progress = f.err, false, false, 0, nil
	}
	return out
}

// Alone says that no other replica has the entries that group g is given here:
// there is none, or g is not here.
func (e *Engine) Alone(g storage.GroupID) bool {
	gr := e.group(g)
	return gr == nil || gr.status.Load().Alone
}

// Groups returns the groups of which this node holds a replica, in order.
func (e *Engine) Groups() []storage.GroupID {
	groups := e.list()
	ids := make([]storage.GroupID, len(groups))
	for i, g := range groups {
		ids[i] = g.id
	}
	return ids
}
