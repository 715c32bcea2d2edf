package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/node/config"
)

// retryCommand is the pause before a command that was refused is tried again.
const retryCommand = 20 * time.Millisecond

// command has a partition apply what add adds. It tries until that is done or
// ctx ends, so add must do no harm when it is applied twice.
func command(ctx context.Context, p *actors.Partition, add func(*repository.EntryBuilder)) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		done := make(chan error, 1)
		p.Command(add, func(r *repository.Results, err error) {
			if err == nil && r.Void {
				err = errVoid
			}
			done <- err
		})
		var err error
		select {
		case err = <-done:
			if err == nil {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("command to partition %d: %w", p.ID(), ctx.Err())
		}
		timer.Reset(retryCommand)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return fmt.Errorf("command to partition %d: %w", p.ID(), errors.Join(ctx.Err(), err))
		}
	}
}

var errVoid = errors.New("proposed in another term")

// everywhere gives a command to all partitions at once and waits for them all.
func everywhere(ctx context.Context, partitions []*actors.Partition, add func(*repository.EntryBuilder)) error {
	errs := make(chan error, len(partitions))
	for _, p := range partitions {
		go func() { errs <- command(ctx, p, add) }()
	}
	var all []error
	for range partitions {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// configure gives their settings to the partitions that this node leads and that
// have none yet. They come from a partition that has them, else, on the node that
// founded the cluster, from its flags: a start that broke off may have left some
// without.
func configure(ctx context.Context, partitions []*actors.Partition, founder bool, seed *config.Seed) error {
	settings, known := partitionSettings(seed, len(partitions)), founder
	var bare []*actors.Partition
	for _, p := range partitions {
		var have repository.Config
		if err := p.View(func(m *repository.Machine) error { have = m.Config(); return nil }); err != nil {
			continue // its records are damaged: it is quarantined, and the others are served
		}
		if have.Version != 0 {
			settings, known = have, true
		} else if _, leads := p.Leading(); leads {
			bare = append(bare, p)
		}
	}
	if len(bare) == 0 || !known {
		return nil
	}
	err := everywhere(ctx, bare, func(b *repository.EntryBuilder) { b.AddConfigure(&settings) })
	if err != nil {
		return fmt.Errorf("set up partitions: %w", err)
	}
	return nil
}

func partitionSettings(s *config.Seed, partitions int) repository.Config {
	c := repository.DefaultConfig()
	c.Version = 1
	c.DedupWindowMs, c.RetentionMs = ms(s.DedupWindow), ms(s.Retention)
	c.DeadRetentionMs, c.ProducerIdleMs, c.ResultTTLMs = ms(s.DeadRetention), ms(s.ProducerIdle), ms(s.ResultRetention)
	c.BacklogPackets, c.BacklogBytes = uint64(s.BacklogPackets), uint64(s.BacklogBytes)
	c.RetentionBytes = uint64(s.RetentionBytes) / uint64(partitions) // repositories spread evenly over them
	return c
}

// groupSettings are those of a group that its first worker makes.
func groupSettings(s *config.Seed, name string) repository.GroupConfig {
	c := repository.DefaultGroupConfig(name)
	c.MaxAttempts, c.LeaseMs, c.MaxBatch = uint64(s.MaxAttempts), ms(s.Lease), uint64(s.MaxBatch)
	c.BackoffBaseMs, c.BackoffMaxMs = ms(s.BackoffBase), ms(s.BackoffMax)
	c.ResultTTLMs = ms(s.ResultRetention)
	return c
}

func ms(d time.Duration) uint64 { return uint64(d.Milliseconds()) }
