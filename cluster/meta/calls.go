package meta

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

// Proposer proposes entries. *cluster.Engine is one.
type Proposer interface {
	Propose(g storage.GroupID, term uint64, data []byte, done func(result any, err error))
}

// Forwarder carries a command to the node that leads meta, whose
// Calls.HandleForwarded answers it. It makes one try: any error says that the
// outcome is not known, and the command is carried again, to whoever leads by
// then. body is not kept.
type Forwarder interface {
	Forward(ctx context.Context, kind uint8, body []byte) (result []byte, err error)
}

// Calls changes meta's state. Each call is carried out by the node that leads
// the meta group, this one or, through the Forwarder, another. It waits for the
// command's result and ends early with ctx's error. All may be called at the
// same time.
//
// Every command may be proposed again when an outcome is unknown, and is; why
// that is safe stands with each command. A result that came from another node
// may be ahead of this node's view.
type Calls struct {
	store    *Store
	proposer Proposer
	forward  Forwarder
}

// NewCalls returns calls on store's group through p. Without a forwarder they
// wait until this node leads.
func NewCalls(store *Store, p Proposer, f Forwarder) *Calls {
	return &Calls{store: store, proposer: p, forward: f}
}

// Init makes the cluster, or finds it made. ErrMade says that it is another one.
func (c *Calls) Init(ctx context.Context, i Init) (*View, error) {
	if _, err := c.call(ctx, &i); err != nil {
		return nil, fmt.Errorf("make cluster: %w", err)
	}
	return c.store.View(), nil
}

// JoinNode takes a node in and returns its replica of meta. It is called by a
// member for the node that asks. ErrNameTaken, ErrRemoved, ErrCopy, ErrFeature
// and ErrTooMany say why it may not join.
func (c *Calls) JoinNode(ctx context.Context, n Node) (storage.ReplicaID, error) {
	r, err := c.call(ctx, &JoinNode{Node: n})
	if err != nil {
		return 0, fmt.Errorf("join node %s: %w", n.Name, err)
	}
	return r.Replica, nil
}

// SetNodeState activates, drains, undrains or removes a node.
func (c *Calls) SetNodeState(ctx context.Context, n identity.NodeID, s NodeState) error {
	if _, err := c.call(ctx, &SetNodeState{Node: n, State: s}); err != nil {
		return fmt.Errorf("set node %s %s: %w", n, s, err)
	}
	return nil
}

// SetMap changes the map if it is still of m's generation, and else is refused
// with ErrStale. After an unknown outcome that is what a change that was made
// is answered with: look at the map.
func (c *Calls) SetMap(ctx context.Context, m SetMap) error {
	if _, err := c.call(ctx, &m); err != nil {
		return fmt.Errorf("set map: %w", err)
	}
	return nil
}

// ReportGroup reports a group's members. ErrStale says that the reporter's view
// of the map, or its leadership, is over.
func (c *Calls) ReportGroup(ctx context.Context, r ReportGroup) error {
	if _, err := c.call(ctx, &r); err != nil {
		return fmt.Errorf("report group %d: %w", r.Group, err)
	}
	return nil
}

// ReplicaGone reports that this node has deleted a replica.
func (c *Calls) ReplicaGone(ctx context.Context, g storage.GroupID, r storage.ReplicaID) error {
	if _, err := c.call(ctx, &ReplicaGone{Group: g, Replica: r}); err != nil {
		return fmt.Errorf("report replica %d of group %d gone: %w", r, g, err)
	}
	return nil
}

// ReplaceReplica reports a quarantined replica and returns the one that takes
// its place; 0 if none needs to, or if it is to be reported again: it was to vote,
// and has to be taken out of the map's voters first. ErrLastCopies says that it
// must be kept.
func (c *Calls) ReplaceReplica(ctx context.Context, g storage.GroupID, r storage.ReplicaID, why string) (storage.ReplicaID, error) {
	res, err := c.call(ctx, &ReplaceReplica{Group: g, Replica: r, Why: cut(why, maxWhy)})
	if err != nil {
		return 0, fmt.Errorf("replace replica %d of group %d: %w", r, g, err)
	}
	return res.Replica, nil
}

// RaiseFeature raises the feature level. ErrFeature names a node that does not
// run at it.
func (c *Calls) RaiseFeature(ctx context.Context, level uint32) error {
	if _, err := c.call(ctx, &RaiseFeature{Level: level}); err != nil {
		return fmt.Errorf("raise feature level: %w", err)
	}
	return nil
}

// StartNode records a start. ErrCopy says that the data folder may not be used,
// ErrRemoved that the node is a member no longer.
func (c *Calls) StartNode(ctx context.Context, n Node) error {
	if _, err := c.call(ctx, &StartNode{Node: n}); err != nil {
		return fmt.Errorf("record start of node %s: %w", n.ID, err)
	}
	return nil
}

// OpenProducer gives a producer name its next epoch, from 1.
func (c *Calls) OpenProducer(ctx context.Context, name string) (epoch uint64, err error) {
	r, err := c.call(ctx, &OpenProducer{Name: name})
	if err != nil {
		return 0, fmt.Errorf("open producer: %w", err)
	}
	return r.Epoch, nil
}

// EnsureGroup returns the consumer group of that name, and makes it with
// settings, which it copies, if there is none.
func (c *Calls) EnsureGroup(ctx context.Context, name string, settings []byte) (Group, error) {
	if g, ok := c.store.View().Group(name); ok {
		return g, nil
	}
	r, err := c.call(ctx, &EnsureGroup{Name: name, Settings: settings})
	if err != nil {
		return Group{}, fmt.Errorf("ensure group: %w", err)
	}
	return r.Group, nil
}

// SetGroup makes a consumer group, where version is 0, or changes the settings of
// one that is at that version; ErrGroupThere, ErrNoGroup or ErrGroupChanged where
// that is not so. It copies settings.
func (c *Calls) SetGroup(ctx context.Context, name string, version uint32, settings []byte) (Group, error) {
	r, err := c.call(ctx, &SetGroup{Name: name, Version: version, Settings: settings})
	if err != nil {
		return Group{}, fmt.Errorf("set group: %w", err)
	}
	return r.Group, nil
}

// DropGroup deletes the consumer group of that id; ErrNoGroup says that there never
// was one.
func (c *Calls) DropGroup(ctx context.Context, id uint32) error {
	if _, err := c.call(ctx, &DropGroup{ID: id}); err != nil {
		return fmt.Errorf("delete group: %w", err)
	}
	return nil
}

// call proposes until the outcome is known.
func (c *Calls) call(ctx context.Context, cmd Command) (Result, error) {
	if err := cmd.validate(); err != nil {
		return Result{}, err
	}
	pause := firstPause
	for {
		term, changed := c.store.Leading()
		if term == 0 {
			r, done, err := c.elsewhere(ctx, cmd, changed, &pause)
			if done || err != nil {
				return r, cmp.Or(err, r.Err)
			}
			continue
		}
		r, err := c.propose(ctx, term, cmd)
		switch {
		case err == nil && !errors.Is(r.Err, ErrVoid):
			return r, r.Err
		case err != nil && !errors.Is(err, cluster.ErrUnknown) && !errors.Is(err, cluster.ErrNotLeader):
			return Result{}, err
		}
		// The term is over; the store learns it in a moment, if it has not.
		if now, _ := c.store.Leading(); now == term {
			if err := await(ctx, changed); err != nil {
				return Result{}, err
			}
		}
	}
}

func await(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no leader of the meta group: %w", ctx.Err())
	}
}

func (c *Calls) propose(ctx context.Context, term uint64, cmd Command) (Result, error) {
	data := Entry(cmd)
	type answer struct {
		result any
		err    error
	}
	answered := make(chan answer, 1)
	c.proposer.Propose(MetaGroup, term, data, func(result any, err error) { answered <- answer{result, err} })
	select {
	case a := <-answered:
		r, _ := a.result.(Result)
		return r, a.err
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}
