package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/member"
	"github.com/waystation/waystation/storage"
)

// Recover lets a cluster go on whose majority is lost for good: from the data
// folders of nodes that do not run, the first of which is the one that goes on. Of
// each group the copy is taken that has most. The node is then the only voter of
// everything in the same cluster, all others are removed from it, and what the lost
// ones alone had acknowledged is gone. All of it is made beside what is there, and
// takes its place once it is whole; the old databases stay in the data folder. A
// recovery that broke off is begun again, or ended, by the next one.
//
// The partitions in empty begin anew, with nothing: nobody has a copy of them that
// can be read.
func Recover(dirs []string, empty []uint, logger *slog.Logger) (*Plan, error) {
	all, err := openSurvivors(dirs, logger)
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	p, err := all.recover(empty, logger)
	if closed := all.close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	return p, nil
}

func (all survivors) recover(empty []uint, logger *slog.Logger) (*Plan, error) {
	p, parts, err := all.plan(empty)
	if err != nil {
		return nil, err
	}
	first := all[0]
	to, err := openStores(filepath.Join(first.dir, recoveringDir), logger)
	if err != nil {
		return nil, err
	}
	r := &recovery{stores: to, first: first, parts: parts, logger: logger}
	err = r.make()
	if err = errors.Join(err, to.close()); err != nil {
		return nil, errors.Join(err, os.RemoveAll(filepath.Join(first.dir, recoveringDir)))
	}
	if err := first.closeStores(); err != nil {
		return nil, err
	}
	p.Before = filepath.Join(first.dir, beforeDir+time.Now().UTC().Format("20060102T150405.000Z"))
	if err := complete(first.dir, filepath.Base(p.Before)); err != nil {
		return nil, err
	}
	p.Done, p.GivenUp = true, r.gone
	return p, swap(first.dir, filepath.Base(p.Before))
}

// recovery makes the new databases.
type recovery struct {
	*stores
	first  *survivor
	parts  []part
	logger *slog.Logger
	groups []meta.Group
	gone   []Member
}

// make takes a copy of each group, brings it to its log's end, and moves it to an
// index that was never given out.
func (r *recovery) make() error {
	for g := range r.parts {
		if r.parts[g].empty {
			continue
		}
		if err := r.take(storage.GroupID(g)); err != nil {
			return fmt.Errorf("%s: take the copy of %s: %w", r.parts[g].from.dir, groupName(storage.GroupID(g)), err)
		}
	}
	if err := r.replay(); err != nil {
		return err
	}
	made, err := r.refound()
	if err != nil {
		return err
	}
	for g := range r.parts[1:] {
		if err := r.move(storage.GroupID(g)+1, made.Replicas[g+1]); err != nil {
			return fmt.Errorf("move %s: %w", groupName(storage.GroupID(g)+1), err)
		}
	}
	if err := r.putMeta(made, r.at(meta.MetaGroup)); err != nil {
		return err
	}
	b := r.first.of
	b.Replica, b.Founder = made.Replicas[0], true
	return errors.Join(identity.Keep(r.log, r.first.id), member.Record(r.log, b), r.state.Flush())
}

// at is where a group goes on.
func (r *recovery) at(g storage.GroupID) storage.Position {
	c := r.parts[g].copy
	return storage.Position{Index: c.Last.Index + Jump, Term: c.Term + 1}
}

// take puts a group's records into the new state as they are.
func (r *recovery) take(g storage.GroupID) error {
	from := r.parts[g].from.state
	return r.stage(g, from, func(_, v []byte) ([]byte, bool) { return v, true }, func(stage *storage.Stage, lower, upper []byte) error {
		if err := stage.Seal(); err != nil {
			return err
		}
		return r.state.Install(g, lower, upper)
	})
}

// move has a group go on at another index, as a new replica.
func (r *recovery) move(g storage.GroupID, id storage.ReplicaID) error {
	at := r.at(g)
	if r.parts[g].empty {
		return r.anew(g, id, at)
	}
	change := func(k, v []byte) ([]byte, bool) { return repository.Moved(k, v, at.Index) }
	return r.stage(g, r.state, change, func(stage *storage.Stage, lower, upper []byte) error {
		return r.install(stage, storage.ReplicaMeta{Group: g, Replica: id, Truncated: at}, lower, upper)
	})
}

// anew has a partition begin with nothing but its place in the log.
func (r *recovery) anew(g storage.GroupID, id storage.ReplicaID, at storage.Position) error {
	stage, err := r.state.NewStage(g)
	if err != nil {
		return err
	}
	if err := stage.Add(repository.Anew(repository.PartitionID(g-1), at.Index)); err != nil {
		return errors.Join(err, stage.Discard())
	}
	lower, upper := rangeOf(g)
	return r.install(stage, storage.ReplicaMeta{Group: g, Replica: id, Truncated: at}, lower, upper)
}

// stage stages what change leaves of a group's records, and has end end that.
func (r *recovery) stage(
	g storage.GroupID, from *storage.State, change func(k, v []byte) ([]byte, bool), end func(stage *storage.Stage, lower, upper []byte) error,
) error {
	lower, upper := rangeOf(g)
	photo := from.SnapshotRange(lower, upper)
	stage, err := r.state.NewStage(g)
	if err == nil {
		added := error(nil)
		err = photo.Scan(lower, upper, func(k, v []byte) bool {
			if v, keep := change(k, v); keep {
				added = stage.Add(k, v)
			}
			return added == nil
		})
		err = errors.Join(err, added)
		if err != nil {
			err = errors.Join(err, stage.Discard())
		}
	}
	if err = errors.Join(err, photo.Close()); err != nil {
		return err
	}
	return end(stage, lower, upper)
}

// replay applies the logs, reads everything once, and notes the consumer groups.
func (r *recovery) replay() error {
	c := actors.DefaultConfig()
	c.Partitions, c.HashSeed = int(r.first.of.Partitions), r.first.of.HashSeed
	relay, err := actors.NewRelay(c, offline{}, r.state, r.logger, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	for _, p := range relay.Partitions() {
		x := r.parts[p.Group()]
		if x.empty {
			continue
		}
		if err = x.copy.Replay(x.from.log, p); err == nil {
			err = r.check(p)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w: leave this folder out, if another one has %s, %s", x.from.dir, err, groupName(p.Group()), otherwise(p.Group()))
			break
		}
	}
	limited, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(err, relay.Stop(limited))
}

// check reads every payload that a partition refers to.
func (r *recovery) check(p *actors.Partition) error {
	if _, err := p.Check(r.state, func(int) error { return nil }); err != nil {
		return err
	}
	return p.View(func(m *repository.Machine) error {
		m.Depths(func(g *repository.GroupConfig, _ [repository.Ranks]uint64, _ uint64) {
			r.groups = append(r.groups, meta.Group{ID: uint32(g.ID), Name: g.Name, Version: uint32(g.Version), Settings: g.Append(nil)})
		})
		return nil
	})
}

// refound makes the cluster's own records: the same cluster, with one node.
func (r *recovery) refound() (meta.Refounded, error) {
	x := r.parts[meta.MetaGroup]
	store, err := meta.Open(r.state)
	if err == nil {
		err = x.copy.Replay(x.from.log, store)
	}
	if err != nil {
		return meta.Refounded{}, fmt.Errorf("%s: %w", x.from.dir, err)
	}
	var old []meta.Record
	lower, upper := rangeOf(meta.MetaGroup)
	err = r.state.Scan(lower, upper, func(k, v []byte) bool {
		old = append(old, meta.Record{Key: slices.Clone(k), Value: slices.Clone(v)})
		return true
	})
	if err != nil {
		return meta.Refounded{}, err
	}
	node, known := store.View().Node(r.first.id.Node)
	if !known {
		node = meta.Node{ID: r.first.id.Node, Name: r.first.of.Node, Version: config.Version()}
	}
	node.Features = meta.Supported()
	node.Boot, node.Life = r.first.id.Boot, r.first.id.Life
	r.gone = others(store.View(), node.ID)
	var gone []string
	for _, n := range r.gone {
		gone = append(gone, n.Name)
	}
	return meta.Refound(old, meta.Refounding{
		Node: node, Applied: r.at(meta.MetaGroup).Index, NowMs: time.Now().UnixMilli(), Groups: r.groups,
		Why: fmt.Sprintf("recovered on node %s, loss accepted; given up: %s", node.Name, strings.Join(gone, ", ")),
	})
}

// offline is the replication of partitions that nothing is proposed to, and all of
// whose payloads are spilled.
type offline struct{}

var errOffline = errors.New("nothing is replicated while a data folder is recovered")

// Propose implements actors.Proposer.
func (offline) Propose(_ storage.GroupID, _ uint64, _ []byte, done func(any, error)) {
	done(nil, errOffline)
}

// ReadIndex implements actors.Proposer.
func (offline) ReadIndex(_ storage.GroupID, done func(uint64, error)) { done(0, errOffline) }

// ReadAt implements actors.Proposer.
func (offline) ReadAt(_ storage.GroupID, _ uint64, _, _ int, dst []byte) ([]byte, error) {
	return dst, storage.ErrCompacted
}

var (
	_ actors.Proposer      = offline{}
	_ cluster.StateMachine = (*actors.Partition)(nil)
)
