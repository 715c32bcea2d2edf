package storage_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/storagetest"
)

// TestInstallCrashAtEverySync cuts the power before every sync of every file while a snapshot is
// installed, between the steps and within them, and starts again from what is left: with none,
// some and all of what was not synced.
func TestInstallCrashAtEverySync(t *testing.T) {
	for seed := range uint64(4) {
		p := &powerCuts{mem: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(seed, 8))}
		var at []storagetest.Installer // what was done by the time of each cut
		run := func(step func(n *storagetest.Installer) error, n *storagetest.Installer) {
			before := *n
			err := step(n)
			if err != nil {
				t.Fatal(err)
			}
			asked := *n // as far as it was asked for when the power went
			asked.During(before)
			p.mu.Lock()
			defer p.mu.Unlock()
			for len(at) < len(p.cuts) {
				at = append(at, asked)
			}
		}
		fs := cutFS{errorfs.Wrap(p.mem, p), p}
		l, s := openBoth(t, fs)
		n := storagetest.NewInstaller(l, s)
		run((*storagetest.Installer).Prepare, n)
		prepared := len(p.cuts)
		for step := range storagetest.InstallSteps() {
			run(func(n *storagetest.Installer) error { return n.Step(step) }, n)
		}
		if err := errors.Join(s.Close(), l.Close()); err != nil {
			t.Fatal(err)
		}
		if got := len(at) - prepared; got < 12 {
			t.Fatalf("only %d syncs in an install", got)
		}
		for i := prepared; i < len(at); i++ {
			recoverInstall(t, p.cuts[i], at[i])
		}
	}
}

func openBoth(t *testing.T, fs storage.FS) (*storage.Log, *storage.State) {
	t.Helper()
	l, err := storage.OpenLog(smallLog(fs))
	if err != nil {
		t.Fatal(err)
	}
	s, err := storage.OpenState(smallState(fs))
	if err != nil {
		t.Fatal(err)
	}
	return l, s
}

func recoverInstall(t *testing.T, m moment, n storagetest.Installer) {
	t.Helper()
	l, s := openBoth(t, m.disk)
	n.Reopened(l, s)
	if err := n.Check(); err != nil {
		t.Fatalf("%s: %v", m.what, err)
	}
	if err := n.Recover(storagetest.RecoverAll); err != nil {
		t.Fatalf("%s: recover: %v", m.what, err)
	}
	if err := n.Ended(); err != nil {
		t.Fatalf("%s: after the recovery: %v", m.what, err)
	}
	if err := errors.Join(s.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestInstallEveryWriteFails lets each write, sync and rename of an install fail in turn, cuts the
// power, and starts again. The process was told to end, and what is left fits together.
func TestInstallEveryWriteFails(t *testing.T) {
	eachFault(t, func(r *faultRun) {
		lc, sc := smallLog(r.fs()), smallState(r.fs())
		lc.Fatal, sc.Fatal = r.fatal, r.fatal
		l, err := storage.OpenLog(lc)
		if err != nil {
			return // see TestLogEveryWriteFails
		}
		s, err := storage.OpenState(sc)
		if err != nil {
			_ = l.Close()
			return
		}
		n := storagetest.NewInstaller(l, s)
		err = n.Prepare()
		prepared := err == nil
		for step := 0; err == nil && step < storagetest.InstallSteps(); step++ {
			err = n.Step(step)
		}
		if err != nil && !errors.Is(err, storage.ErrSync) {
			r.t.Errorf("an install on a disk that fails: %v, want ErrSync", err)
		}
		if closed := errors.Join(s.Close(), l.Close()); (err != nil || closed != nil) && r.told.Load() != 1 {
			r.t.Errorf("install %v, close %v, the owner was told %d times", err, closed, r.told.Load())
		}
		if !prepared {
			return
		}
		m := moment{what: "a failed write", disk: r.afterRestart()}
		recoverInstall(r.t, m, *n)
	})
}
