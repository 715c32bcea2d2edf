package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster/meta"
)

// DeleteGroup implements api.Cluster.
func (c *clusterView) DeleteGroup(ctx context.Context, name string) error {
	return c.node.groups.remove(ctx, name)
}

// remove deletes a group, and returns once no partition serves it. Where one has no
// leader meanwhile, it is told as soon as it has one.
func (g *groups) remove(ctx context.Context, name string) error {
	if err := actors.CheckGroup(name); err != nil {
		return err
	}
	record, ok := g.store.View().Group(name)
	if !ok {
		return refusedNoGroup
	}
	if err := g.calls.DropGroup(ctx, record.ID); err != nil {
		if errors.Is(err, meta.ErrNoGroup) {
			return refusedNoGroup
		}
		return err
	}
	g.end(record.ID, record.Name)
	if err := g.spread.everywhere(ctx, dropRequest(record.ID)); err != nil {
		return fmt.Errorf("delete group %s: %w", record.Name, err)
	}
	return nil
}

// end ends a deleted group on this node.
func (g *groups) end(id uint32, name string) {
	g.mu.Lock()
	if active := *g.active.Load(); uint32(active[name].ID) == id {
		next := maps.Clone(active)
		delete(next, name)
		g.active.Store(&next)
	}
	g.mu.Unlock()
	g.forget(repository.GroupID(id))
	g.logger.Info("group is deleted", slog.String("group", name))
}

// prune ends the groups that are active here and were deleted at another node.
func (g *groups) prune() {
	v := g.store.View()
	for name, c := range *g.active.Load() {
		if v.GroupDeleted(uint32(c.ID)) {
			g.end(uint32(c.ID), name)
		}
	}
}

// drop tells the partitions that this node leads which of their groups were deleted
// while they had no leader.
func (g *groups) drop(ctx context.Context) error {
	v := g.store.View()
	var errs []error
	for _, p := range g.spread.partitions {
		if _, leads := p.Leading(); !leads {
			continue
		}
		for _, id := range groupsOf(p) {
			if !v.GroupDeleted(uint32(id)) {
				continue
			}
			errs = append(errs, command(ctx, p, func(b *repository.EntryBuilder) { b.AddDropGroup(id) }))
			g.forget(id)
		}
	}
	return errors.Join(errs...)
}
