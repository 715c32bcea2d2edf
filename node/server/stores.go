package server

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

// stores are the data folder's two databases and who it is.
type stores struct {
	log   *storage.Log
	state *storage.State
	id    identity.Identity
	// engine runs the replicas whose records may turn out to be damaged.
	engine atomic.Pointer[cluster.Engine]
}

// disks is where the stores are, and who is told what of them.
type disks struct {
	fs     storage.FS // nil: the operating system's
	dir    string
	logger *slog.Logger
	reg    prometheus.Registerer
	// fatal is told of the first failure after which the node must end.
	fatal func(error)
	// groups says where each raft group's keys lie, and damaged is told which of
	// them a background task found damaged.
	groups  func() []storage.GroupRange
	damaged func(storage.Damage)
}

// openStores opens what is in the data folder, which is locked, and begins a
// life of it.
func openStores(d disks, s sizes) (*stores, error) {
	logCfg := storage.DefaultLogConfig(filepath.Join(d.dir, "log"))
	logCfg.FS, logCfg.Logger, logCfg.Registerer, logCfg.Fatal = d.fs, d.logger, d.reg, d.fatal
	logCfg.Damaged = d.damaged
	s.log(&logCfg)
	stateCfg := storage.DefaultStateConfig(filepath.Join(d.dir, "state"))
	stateCfg.FS, stateCfg.Logger, stateCfg.Fatal = d.fs, d.logger, d.fatal
	stateCfg.Groups, stateCfg.Damaged = d.groups, d.damaged
	s.state(&stateCfg)
	log, err := storage.OpenLog(logCfg)
	if err != nil {
		return nil, err
	}
	state, err := storage.OpenState(stateCfg)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	st := &stores{log: log, state: state}
	if st.id, err = identity.Start(log, rand.Reader); err != nil {
		return nil, errors.Join(fmt.Errorf("start in %s: %w", d.dir, err), st.close())
	}
	return st, nil
}

// giveUp has a replica replaced whose payloads are damaged, if the others are
// enough to go on with: what they have is lost here only.
func (s *stores) giveUp(g storage.GroupID, err error) bool {
	e := s.engine.Load()
	if e == nil {
		return false
	}
	st := e.Status(g)
	if st.Err != nil {
		return errors.Is(st.Err, cluster.ErrQuarantined)
	}
	if len(st.Conf.Voters) < 3 && !slices.Contains(st.Conf.Learners, st.Replica) {
		return false
	}
	e.Damaged(storage.Damage{Group: g, Err: err})
	return true
}

func (s *stores) close() error {
	// The state first: what it has not flushed comes again from the log.
	return errors.Join(s.state.Close(), s.log.Close())
}
