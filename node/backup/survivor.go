package backup

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/node/member"
	"github.com/waystation/waystation/storage"
)

var (
	// ErrNoFolder says that a folder is no node's data folder.
	ErrNoFolder = errors.New("not a data folder")
	// ErrOther says that data folders are not of one cluster.
	ErrOther = errors.New("data folders are of different clusters")
	// ErrNoPartition says that the cluster has no such partition.
	ErrNoPartition = errors.New("no such partition")
	// ErrNoCopy says that none of the folders has a group.
	ErrNoCopy = errors.New("no copy")
)

// survivor is the data folder of a node that does not run, locked.
type survivor struct {
	*stores
	dir  string
	lock *storage.DirLock
	id   identity.Identity
	of   member.Belonging
}

func openSurvivor(dir string, logger *slog.Logger) (_ *survivor, err error) {
	if _, err := os.Stat(filepath.Join(dir, logDir)); err != nil {
		return nil, fmt.Errorf("%w: %s: %w: name the --data-dir of a node of the cluster", ErrNoFolder, dir, err)
	}
	s := &survivor{dir: dir}
	if s.lock, err = storage.LockDir(nil, dir); err != nil {
		return nil, err
	}
	if err = s.open(logger); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", dir, err), s.close())
	}
	return s, nil
}

func (s *survivor) open(logger *slog.Logger) (err error) {
	if err = finish(s.dir); err != nil {
		return err
	}
	if s.stores, err = openStores(s.dir, logger); err != nil {
		return err
	}
	if s.id, err = identity.Load(s.log); err != nil {
		return fmt.Errorf("%w: %w", ErrNoFolder, err)
	}
	var found bool
	if s.of, found, err = member.Load(s.log); err == nil && !found {
		err = fmt.Errorf("%w: its node never was part of a cluster", ErrNoFolder)
	}
	return err
}

func (s *survivor) closeStores() error {
	if s.stores == nil {
		return nil
	}
	open := s.stores
	s.stores = nil
	return open.close()
}

func (s *survivor) close() error { return errors.Join(s.closeStores(), s.lock.Close()) }

// copyOf is what the folder holds of a group.
func (s *survivor) copyOf(g storage.GroupID) (cluster.Copy, error) {
	if g == meta.MetaGroup {
		return cluster.FindCopy(s.log, g, func() (uint64, []byte, error) { return (*meta.Store)(nil).AppliedIn(s.state) })
	}
	part := repository.PartitionID(g - 1)
	c, err := cluster.FindCopy(s.log, g, func() (uint64, []byte, error) { return actors.AppliedIn(s.state, part) })
	if err == nil && c.TimeMs == 0 { // its log has nothing but changes of replicas and of leaders
		c.TimeMs, err = actors.LogTimeIn(s.state, part)
	}
	return c, err
}

// rangeOf is where a group's keys lie.
func rangeOf(g storage.GroupID) (lower, upper []byte) {
	if g == meta.MetaGroup {
		return (*meta.Store)(nil).KeyRange()
	}
	return repository.KeyRange(repository.PartitionID(g - 1))
}

// survivors are the folders of one cluster, of which the first one's node goes on.
type survivors []*survivor

func openSurvivors(dirs []string, logger *slog.Logger) (all survivors, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, all.close())
		}
	}()
	for _, dir := range dirs {
		s, err := openSurvivor(dir, logger)
		if err != nil {
			return all, err
		}
		all = append(all, s)
		first := all[0]
		if s.of.Cluster != first.of.Cluster || s.of.Partitions != first.of.Partitions || s.of.HashSeed != first.of.HashSeed {
			return all, fmt.Errorf("%w: %s is of %s, %s of %s", ErrOther, first.dir, first.of.Cluster, s.dir, s.of.Cluster)
		}
	}
	return all, nil
}

func (all survivors) close() error {
	var errs []error
	for _, s := range all {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// find is a group's copy that has most.
func (all survivors) find(g storage.GroupID) (from *survivor, best cluster.Copy, err error) {
	var errs []error
	for _, s := range all {
		c, err := s.copyOf(g)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", s.dir, err))
		case from == nil || c.Better(best):
			from, best = s, c
		}
	}
	if from == nil {
		return nil, best, fmt.Errorf("%w of %s in these folders: name more of them with --with, %s: %w", ErrNoCopy, groupName(g), otherwise(g), errors.Join(errs...))
	}
	return from, best, nil
}

// otherwise is what can be done about a group that no folder has a good copy of.
func otherwise(g storage.GroupID) string {
	if g == meta.MetaGroup {
		return "or restore a backup"
	}
	return fmt.Sprintf("or restore a backup, or have it begin anew with --empty-partition %d (what was in it is lost, all others are kept)", g-1)
}

func groupName(g storage.GroupID) string {
	if g == meta.MetaGroup {
		return "the cluster's own state"
	}
	return fmt.Sprintf("partition %d", g-1)
}
