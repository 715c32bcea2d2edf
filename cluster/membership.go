package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// confProposal is a change of the configuration that waits for the worker.
type confProposal struct {
	term   uint64
	change *pb.ConfChangeV2
	done   func(error)
}

// ProposeConf changes the replicas of group g, if this node leads it in term.
// The change belongs to the engine from then on; its context is the engine's.
// One with several steps is made by joint consensus, which the leader leaves by
// itself unless it says otherwise. done is called exactly once, under the same
// rules as in Propose: a nil error means that the change is applied here, though
// not that a joint configuration is left already. ErrConf means that it was
// refused, because it makes no sense or another one is under way.
func (e *Engine) ProposeConf(g storage.GroupID, term uint64, change *pb.ConfChangeV2, done func(error)) {
	gr := e.group(g)
	if gr == nil {
		done(fmt.Errorf("change replicas of group %d: %w", g, ErrNoGroup))
		return
	}
	full := false
	ok := gr.post(func(in *input) {
		if full = len(in.changes) >= maxChanges; !full {
			in.changes = append(in.changes, confProposal{term, change, done})
		}
	})
	switch {
	case !ok:
		done(gr.stopped())
	case full:
		done(ErrDropped)
	}
}

// maxChanges bounds the changes that wait: only one can be under way.
const maxChanges = 16

// TransferLeader asks that replica to takes over the leadership of group g,
// which this node has. It does not block. Until that has happened, or has not
// for an election timeout, proposals are answered with ErrDropped.
func (e *Engine) TransferLeader(g storage.GroupID, to storage.ReplicaID) error {
	gr := e.group(g)
	switch {
	case gr == nil:
		return fmt.Errorf("transfer leadership of group %d: %w", g, ErrNoGroup)
	case gr.leads.Load() == 0:
		return fmt.Errorf("transfer leadership of group %d: %w", g, ErrNotLeader)
	case !gr.post(func(in *input) { in.transfer = to }):
		return fmt.Errorf("transfer leadership of group %d: %w", g, gr.stopped())
	}
	return nil
}

// change hands changes of the configuration to raft.
func (w *worker) change(g *group, in *input) {
	for i, p := range in.changes {
		in.changes[i] = confProposal{}
		w.changeOne(g, p)
	}
	if in.transfer != 0 {
		if err := g.core.TransferLeader(in.transfer); err != nil {
			w.engine.cfg.Logger.Debug("leadership not transferred", "group", g.id, "err", err)
		}
	}
}

func (w *worker) changeOne(g *group, p confProposal) {
	g.proposals++
	id := waiterID{term: p.term, proposal: g.proposals}
	p.change.Context = id.context()
	done := func(_ any, err error) { p.done(err) }
	if !g.waiters.add(waiter{term: id.term, proposal: id.proposal, done: done}) {
		p.done(g.stopped())
		return
	}
	if err := g.core.ProposeConf(p.term, p.change); err != nil {
		if done := g.waiters.take(id.term, id.proposal); done != nil {
			done(nil, err)
		}
	}
}

// waiterID is what a change of the configuration carries instead of an
// envelope.
type waiterID struct{ term, proposal uint64 }

func (id waiterID) context() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, id.term), id.proposal)
}

func waiterOf(context []byte) (id waiterID, ok bool) {
	if len(context) != 16 {
		return id, false // raft itself made it, to leave a joint configuration
	}
	return waiterID{binary.BigEndian.Uint64(context), binary.BigEndian.Uint64(context[8:])}, true
}

// applyConf applies an entry that changes the configuration.
func (a *applier) applyConf(g *group, e storage.Entry) error {
	change, err := replica.ConfChange(&e)
	if err != nil {
		return err
	}
	next, refused := g.conf.Next(change)
	if err := g.sm.ApplyConf(e, next.Marshal()); err != nil {
		return err
	}
	a.engine.cfg.Logger.Debug("replicas changed", "group", g.id, "index", e.Index, "from", g.conf, "to", next, "refused", refused)
	g.conf = next
	id, ok := waiterOf(change.GetContext())
	if !ok || id.term != e.Term {
		return nil
	}
	if done := g.waiters.take(id.term, id.proposal); done != nil {
		done(nil, refused)
	}
	return nil
}

// RemoveGroup stops this node's replica of group g for good and deletes what
// the node has of it: first a tombstone is synced, so that the replica can never
// run again, then the state goes, then the log. It must only be called when the
// meta group says so, and blocks until all is deleted; what it did not get to
// is deleted when another replica of the group joins here. The engine must run.
func (e *Engine) RemoveGroup(g storage.GroupID) error {
	gr := e.group(g)
	if gr == nil {
		return fmt.Errorf("remove group %d: %w", g, ErrNoGroup)
	}
	gr.fail(ErrRemoved)
	if err := e.bury(gr); err != nil {
		return fmt.Errorf("remove group %d: %w", g, err)
	}
	err := e.clear(gr)
	e.drop(gr)
	if err != nil {
		return fmt.Errorf("remove group %d: %w", g, err)
	}
	return nil
}

// bury waits until nothing touches the group any more, and writes its
// tombstone.
func (e *Engine) bury(gr *group) error {
	if err := e.await(gr.worker.call); err != nil {
		return err
	}
	gr.leave()
	tombstone := func(b *storage.LogBatch) {
		b.PutReplica(storage.ReplicaMeta{Group: gr.id, Replica: gr.replica, State: storage.ReplicaTombstone})
	}
	if err := e.await(func(done func()) { e.writer.order(tombstone, done) }); err != nil {
		return err
	}
	return e.await(e.applier.call)
}

// await gives start a function to call, and waits until it is called.
func (e *Engine) await(start func(done func())) error {
	e.mu.Lock()
	runs := e.started && !e.stopped
	e.mu.Unlock()
	if !runs {
		return ErrStopped
	}
	done := make(chan struct{})
	start(func() { close(done) })
	select {
	case <-done:
		return nil
	case <-e.quit:
		return ErrStopped
	}
}

// clear deletes what a removed replica had. Only its tombstone stays. The state
// is cut out by installing nothing in its place: that gets rid of damage too.
func (e *Engine) clear(gr *group) error {
	lower, upper := gr.sm.KeyRange()
	stage, err := e.cfg.State.NewStage(gr.id)
	if err == nil {
		err = stage.Seal()
	}
	if err == nil {
		err = e.cfg.State.Install(gr.id, lower, upper)
	}
	if err != nil {
		return e.broken(fmt.Errorf("delete state of replica %d: %w", gr.replica, err))
	}
	entries := e.cfg.Log.NewBatch()
	entries.DropGroup(gr.id)
	if err := entries.Commit(true); err != nil {
		return e.broken(fmt.Errorf("delete log of replica %d: %w", gr.replica, err))
	}
	return guarded(gr.sm.Installed)
}

// broken ends the process if a store can no longer be relied on, and returns err.
func (e *Engine) broken(err error) error {
	if errors.Is(err, storage.ErrSync) {
		e.fatal(err)
	}
	return err
}

// drop takes a group out of those that run.
func (e *Engine) drop(gr *group) {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.groups.Load()
	set := &groupSet{byID: maps.Clone(old.byID), list: slices.Clone(old.list)}
	delete(set.byID, gr.id)
	set.list = slices.DeleteFunc(set.list, func(g *group) bool { return g == gr })
	e.groups.Store(set)
}

// ErrRemoved is why a replica runs no more that was removed from this node.
var ErrRemoved = errors.New("replica was removed")
