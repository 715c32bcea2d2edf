package backup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestSwapGoesOn: a swap that broke off anywhere comes to the same end, and no node
// may run before; what was not complete is thrown away.
func TestSwapGoesOn(t *testing.T) {
	const before = beforeDir + "1"
	steps := [][2]string{
		{stateDir, before + "/" + stateDir},
		{recoveringDir + "/" + stateDir, stateDir},
		{logDir, before + "/" + logDir},
		{recoveringDir + "/" + logDir, logDir},
	}
	for broke := range len(steps) + 1 {
		dir := t.TempDir()
		for _, f := range []string{logDir + "/old", stateDir + "/old", recoveringDir + "/log/new", recoveringDir + "/state/new"} {
			write(t, filepath.Join(dir, f))
		}
		if err := errors.Join(complete(dir, before), os.MkdirAll(filepath.Join(dir, before), 0o750)); err != nil {
			t.Fatal(err)
		}
		for _, s := range steps[:broke] {
			if err := os.Rename(filepath.Join(dir, s[0]), filepath.Join(dir, s[1])); err != nil {
				t.Fatal(err)
			}
		}
		if err := Interrupted(dir); !errors.Is(err, ErrInterrupted) {
			t.Errorf("after step %d a node may run: %v", broke, err)
		}
		if err := errors.Join(finish(dir), Interrupted(dir)); err != nil {
			t.Errorf("after step %d: %v", broke, err)
		}
		for _, f := range []string{logDir + "/new", stateDir + "/new", before + "/log/old", before + "/state/old"} {
			if !exists(filepath.Join(dir, f)) {
				t.Errorf("after step %d there is no %s", broke, f)
			}
		}
		if exists(filepath.Join(dir, recoveringDir)) {
			t.Errorf("after step %d %s is left", broke, recoveringDir)
		}
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, recoveringDir, logDir, "half"))
	write(t, filepath.Join(dir, logDir, "old"))
	if err := errors.Join(Interrupted(dir), finish(dir)); err != nil || exists(filepath.Join(dir, recoveringDir)) || !exists(filepath.Join(dir, logDir, "old")) {
		t.Errorf("one that was not complete: %v", err)
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
}
