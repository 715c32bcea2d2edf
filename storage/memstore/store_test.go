package memstore_test

import (
	"log/slog"
	"testing"

	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/memstore"
	"github.com/waystation/waystation/storage/storagetest"
)

type disk struct{ log, state *memstore.Store }

func (d *disk) OpenLog() (*storage.Log, error) {
	d.log = d.log.Crash(0) // a clean end keeps no less
	return storage.NewLog(d.log, slog.New(slog.DiscardHandler))
}

func (d *disk) OpenState() (*storage.State, error) {
	d.state = d.state.Crash(0)
	return storage.NewState(d.state, slog.New(slog.DiscardHandler)), nil
}

func (d *disk) Crash(seed uint64) {
	d.log, d.state = d.log.Crash(seed), d.state.Crash(seed+1)
}

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storagetest.Disk {
		return &disk{log: memstore.New(), state: memstore.New()}
	})
}
