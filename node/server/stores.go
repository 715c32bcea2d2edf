package server

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

// stores are the data folder's two databases and who it is.
type stores struct {
	log   *storage.Log
	state *storage.State
	id    identity.Identity
}

// openStores opens what is in the data folder, which is locked, and begins a
// life of it. fatal is told of the first failure after which the node must end.
func openStores(fs storage.FS, dir string, s sizes, logger *slog.Logger, reg prometheus.Registerer, fatal func(error)) (*stores, error) {
	logCfg := storage.DefaultLogConfig(filepath.Join(dir, "log"))
	logCfg.FS, logCfg.Logger, logCfg.Registerer, logCfg.Fatal = fs, logger, reg, fatal
	s.log(&logCfg)
	stateCfg := storage.DefaultStateConfig(filepath.Join(dir, "state"))
	stateCfg.FS, stateCfg.Logger, stateCfg.Fatal = fs, logger, fatal
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
		return nil, errors.Join(fmt.Errorf("start in %s: %w", dir, err), st.close())
	}
	return st, nil
}

func (s *stores) close() error {
	// The state first: what it has not flushed comes again from the log.
	return errors.Join(s.state.Close(), s.log.Close())
}
