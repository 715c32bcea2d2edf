package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/node/config"
)

// groups are the cluster's consumer groups. Meta knows them all; one is active
// here once every partition has applied it.
type groups struct {
	calls  *meta.Calls
	store  *meta.Store
	spread *spreader
	seed   *config.Seed
	logger *slog.Logger
	// forget ends what goes on here for a group that was deleted.
	forget func(repository.GroupID)

	active atomic.Pointer[map[string]repository.GroupConfig] // replaced whole, under mu
	mu     sync.Mutex
	making map[string]chan struct{} // closed when the attempt is over
}

func newGroups(calls *meta.Calls, store *meta.Store, spread *spreader, seed *config.Seed, logger *slog.Logger) *groups {
	g := &groups{calls: calls, store: store, spread: spread, seed: seed, logger: logger, making: make(map[string]chan struct{})}
	g.active.Store(&map[string]repository.GroupConfig{})
	return g
}

// Group returns an active group.
func (g *groups) Group(name string) (repository.GroupConfig, bool) {
	c, ok := (*g.active.Load())[name]
	if ok && g.store.View().GroupDeleted(uint32(c.ID)) {
		return repository.GroupConfig{}, false
	}
	return c, ok
}

// Exists says whether meta knows the group.
func (g *groups) Exists(name string) bool {
	_, ok := g.store.View().Group(name)
	return ok
}

// EnsureGroup returns the group, and makes it if there is none. Who comes while
// it is being made waits for that.
func (g *groups) EnsureGroup(ctx context.Context, name string) (repository.GroupConfig, error) {
	for {
		if c, ok := g.Group(name); ok {
			return c, nil
		}
		g.mu.Lock()
		other, busy := g.making[name]
		if !busy {
			g.making[name] = make(chan struct{})
		}
		g.mu.Unlock()
		if !busy {
			return g.make(ctx, name)
		}
		select {
		case <-other: // made, or given up: then it is our turn
		case <-ctx.Done():
			return repository.GroupConfig{}, ctx.Err()
		}
	}
}

func (g *groups) make(ctx context.Context, name string) (repository.GroupConfig, error) {
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		close(g.making[name])
		delete(g.making, name)
	}()
	settings := groupSettings(g.seed, name)
	record, err := g.calls.EnsureGroup(ctx, name, settings.Append(nil))
	if errors.Is(err, meta.ErrTooMany) {
		return repository.GroupConfig{}, tooManyGroups(err)
	}
	if err != nil {
		return repository.GroupConfig{}, err
	}
	return g.activate(ctx, record)
}

// activate brings a group into every partition, and lets it be used here.
func (g *groups) activate(ctx context.Context, record meta.Group) (repository.GroupConfig, error) {
	c, err := groupOf(record)
	if err != nil {
		return c, err
	}
	if err := g.spread.everywhere(ctx, groupRequest(record)); err != nil {
		return c, fmt.Errorf("activate group %s: %w", c.Name, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.store.View().GroupDeleted(record.ID) {
		return c, refusedNoGroup
	}
	active := *g.active.Load()
	if have, ok := active[c.Name]; ok && (have.ID > c.ID || have.ID == c.ID && have.Version >= c.Version) {
		return have, nil
	}
	next := maps.Clone(active)
	next[c.Name] = c
	g.active.Store(&next)
	g.logger.Info("group is active", slog.String("group", c.Name))
	return c, nil
}

// groupOf reads meta's record: its id, name and version count, not those that
// the settings were first written with.
func groupOf(record meta.Group) (repository.GroupConfig, error) {
	var c repository.GroupConfig
	if err := c.Decode(record.Settings); err != nil {
		return c, fmt.Errorf("group %s: %w", record.Name, err)
	}
	c.ID, c.Name, c.Version = repository.GroupID(record.ID), record.Name, uint64(record.Version)
	return c, nil
}

// restore activates the groups that meta knows and this node does not use yet, and
// ends those that were deleted.
func (g *groups) restore(ctx context.Context) error {
	g.prune()
	errs := []error{g.drop(ctx)}
	for _, record := range g.store.View().Groups {
		if have, ok := g.Group(record.Name); ok && uint32(have.ID) == record.ID && have.Version >= uint64(record.Version) {
			continue
		}
		if _, err := g.activate(ctx, record); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
