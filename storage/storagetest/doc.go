// Package storagetest states how storage.Log and storage.State behave, as tests that every
// storage.KV and storage.LogKV passes below them: Pebble, segment files, and the one in memory that the
// simulator uses.
package storagetest

import (
	"testing"

	"github.com/waystation/waystation/storage"
)

// Disk is what survives a process. A store under test opens on it, one at a time.
type Disk interface {
	OpenLog() (*storage.Log, error)
	OpenState() (*storage.State, error)
	// Crash leaves what a loss of power would at this moment: all that was synced, and of the
	// rest what the seed says. Whatever is open is abandoned and need not be closed.
	Crash(seed uint64)
}

// Run runs the whole suite. fresh returns an empty disk.
func Run(t *testing.T, fresh func(t *testing.T) Disk) {
	t.Run("Log", func(t *testing.T) { runLog(t, fresh) })
	t.Run("State", func(t *testing.T) { runState(t, fresh) })
	t.Run("Stage", func(t *testing.T) { runStage(t, fresh) })
	t.Run("InstallCrash", func(t *testing.T) { runInstallCrash(t, fresh) })
	t.Run("LogCrash", func(t *testing.T) { runLogCrash(t, fresh) })
	t.Run("StateCrash", func(t *testing.T) { runStateCrash(t, fresh) })
	t.Run("StateFamilies", func(t *testing.T) { runStateFamilies(t, fresh) })
	t.Run("Discipline", func(t *testing.T) { runDiscipline(t, fresh) })
}

func openLog(t *testing.T, d Disk) *storage.Log {
	t.Helper()
	l, err := d.OpenLog()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func openState(t *testing.T, d Disk) *storage.State {
	t.Helper()
	s, err := d.OpenState()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// data returns size bytes that differ with the seed.
func data(seed uint64, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		seed = seed*6364136223846793005 + 1442695040888963407
		b[i] = byte(seed >> 56)
	}
	return b
}
