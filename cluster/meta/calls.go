package meta

import (
	"context"
	"errors"
	"fmt"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/messages/envelope"
	"github.com/waystation/waystation/storage"
)

// Proposer proposes entries. *cluster.Engine is one.
type Proposer interface {
	Propose(g storage.GroupID, term uint64, data []byte, done func(result any, err error))
}

// Calls changes meta's state. Each call waits until this node leads the meta
// group, then for the command's result, and ends early with ctx's error. All
// may be called at the same time.
//
// Every command may be proposed again when an outcome is unknown: to make the
// same cluster, to report the same start and to ensure the same group change
// nothing the second time, and an epoch that was given to nobody is only
// skipped.
type Calls struct {
	store    *Store
	proposer Proposer
}

// NewCalls returns calls on store's group through p.
func NewCalls(store *Store, p Proposer) *Calls { return &Calls{store: store, proposer: p} }

// Init makes the cluster, or finds it made. ErrMade says that it is another one.
func (c *Calls) Init(ctx context.Context, i Init) (*View, error) {
	if _, err := c.call(ctx, &i); err != nil {
		return nil, fmt.Errorf("make cluster: %w", err)
	}
	return c.store.View(), nil
}

// StartNode records a start. ErrCopy says that the data folder may not be used.
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

// call proposes until the outcome is known.
func (c *Calls) call(ctx context.Context, cmd Command) (Result, error) {
	if err := cmd.validate(); err != nil {
		return Result{}, err
	}
	for {
		term, changed := c.store.Leading()
		if term == 0 {
			if err := await(ctx, changed); err != nil {
				return Result{}, err
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
	data := make([]byte, envelope.Size, envelope.Size+256)
	envelope.Envelope{Kind: cmd.kind()}.Put(data)
	data = cmd.append(data)
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
