package server

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster/meta"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// CreateGroup implements api.Cluster.
func (c *clusterView) CreateGroup(ctx context.Context, name string, s *waystationv1.GroupSettings) (*waystationv1.Group, error) {
	return c.node.groups.create(ctx, name, s)
}

// UpdateGroup implements api.Cluster.
func (c *clusterView) UpdateGroup(ctx context.Context, name string, s *waystationv1.GroupSettings) (*waystationv1.Group, error) {
	return c.node.groups.update(ctx, name, s)
}

// Groups implements api.Cluster.
func (c *clusterView) Groups() ([]*waystationv1.Group, error) { return c.node.groups.list() }

// create makes a group, and returns once every partition knows it.
func (g *groups) create(ctx context.Context, name string, s *waystationv1.GroupSettings) (*waystationv1.Group, error) {
	if err := actors.CheckGroup(name); err != nil {
		return nil, err
	}
	cfg := groupSettings(g.seed, name)
	if err := setGroup(&cfg, s, true); err != nil {
		return nil, err
	}
	return g.put(ctx, name, 0, &cfg)
}

// update changes a group's settings. What somebody else changes at the same time
// stays as that one wants it, unless it is the same setting.
func (g *groups) update(ctx context.Context, name string, s *waystationv1.GroupSettings) (*waystationv1.Group, error) {
	if err := actors.CheckGroup(name); err != nil {
		return nil, err
	}
	for {
		record, ok := g.store.View().Group(name)
		if !ok {
			return nil, refusedNoGroup
		}
		cfg, err := groupOf(record)
		if err != nil {
			return nil, err
		}
		if err := setGroup(&cfg, s, false); err != nil {
			return nil, err
		}
		out, err := g.put(ctx, name, record.Version, &cfg)
		if !errors.Is(err, meta.ErrGroupChanged) {
			return out, err
		}
		select { // this node hears of it in a moment
		case <-time.After(retryCommand):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

var refusedNoGroup = &actors.Refusal{Code: actors.CodeNotFound, Field: "group", Message: "there is no such group: see `group list`"}

func (g *groups) put(ctx context.Context, name string, version uint32, cfg *repository.GroupConfig) (*waystationv1.Group, error) {
	record, err := g.calls.SetGroup(ctx, name, version, cfg.Append(nil))
	switch {
	case errors.Is(err, meta.ErrGroupThere):
		return nil, &actors.Refusal{Code: actors.CodeInvalidArgument, Field: "group", Message: "there is one of this name: change it with `group set`"}
	case errors.Is(err, meta.ErrNoGroup):
		return nil, refusedNoGroup
	case errors.Is(err, meta.ErrTooMany):
		return nil, tooManyGroups(err)
	case err != nil:
		return nil, err
	}
	if _, err := g.activate(ctx, record); err != nil {
		return nil, err
	}
	return publicGroup(record)
}

func tooManyGroups(err error) *actors.Refusal {
	return &actors.Refusal{Code: actors.CodeResourceExhausted, Field: "group", Message: err.Error(), RetryAfter: time.Minute}
}

// list is the groups that meta knows, by name.
func (g *groups) list() ([]*waystationv1.Group, error) {
	var out []*waystationv1.Group
	for _, record := range g.store.View().Groups {
		x, err := publicGroup(record)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b *waystationv1.Group) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return out, nil
}

func publicGroup(record meta.Group) (*waystationv1.Group, error) {
	c, err := groupOf(record)
	if err != nil {
		return nil, err
	}
	kinds := map[string]*durationpb.Duration{}
	for _, x := range c.KindTTLs {
		kinds[x.Kind] = ofMs(x.TTLMs)
	}
	return &waystationv1.Group{Name: c.Name, Version: record.Version, Settings: &waystationv1.GroupSettings{
		Start: new(c.Start.String()), MaxAttempts: new(uint32(c.MaxAttempts)), MaxBatch: new(uint32(c.MaxBatch)),
		BackoffBase: ofMs(c.BackoffBaseMs), BackoffMax: ofMs(c.BackoffMaxMs), Lease: ofMs(c.LeaseMs),
		OrderPolicy: new(c.OrderPolicy.String()),
		ResultTtl:   ofMs(c.ResultTTLMs), KindResultTtl: kinds,
	}}, nil
}

func ofMs(ms uint64) *durationpb.Duration {
	return durationpb.New(time.Duration(ms) * time.Millisecond)
}
