package backup

import (
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// stores are the two databases of a data folder that no node runs on.
type stores struct {
	log   *storage.Log
	state *storage.State
}

func openStores(dataDir string, logger *slog.Logger) (*stores, error) {
	logCfg := storage.DefaultLogConfig(filepath.Join(dataDir, "log"))
	stateCfg := storage.DefaultStateConfig(filepath.Join(dataDir, "state"))
	logCfg.Logger, stateCfg.Logger = logger, logger
	log, err := storage.OpenLog(logCfg)
	if err != nil {
		return nil, err
	}
	state, err := storage.OpenState(stateCfg)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return &stores{log: log, state: state}, nil
}

func (s *stores) close() error { return errors.Join(s.state.Close(), s.log.Close()) }

// putMeta makes a replica of the cluster's own records.
func (s *stores) putMeta(made meta.Refounded, at storage.Position) error {
	stage, err := s.state.NewStage(meta.MetaGroup)
	if err != nil {
		return err
	}
	for _, r := range made.Records {
		if err := stage.Add(r.Key, r.Value); err != nil {
			return errors.Join(err, stage.Discard())
		}
	}
	lower, upper := (*meta.Store)(nil).KeyRange()
	return s.install(stage, storage.ReplicaMeta{Group: meta.MetaGroup, Replica: made.Replicas[0], Truncated: at}, lower, upper)
}

// install makes a replica of what is staged: with an empty log behind it.
func (s *stores) install(stage *storage.Stage, r storage.ReplicaMeta, lower, upper []byte) error {
	if err := stage.Seal(); err != nil {
		return err
	}
	if err := s.state.Install(r.Group, lower, upper); err != nil {
		return err
	}
	r.State = storage.ReplicaLive
	batch := s.log.NewBatch()
	batch.PutReplica(r)
	batch.SetHardState(r.Group, storage.HardState{Term: r.Truncated.Term, Commit: r.Truncated.Index})
	return batch.Commit(true)
}
