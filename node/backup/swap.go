package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	logDir   = "log"
	stateDir = "state"

	// recoveringDir is where, within a data folder, its new databases are made;
	// completeFile in it says that they are whole, and where the old ones go.
	recoveringDir = "recovering"
	completeFile  = "COMPLETE"
	beforeDir     = "before-recovery-"
)

// ErrInterrupted says that a recovery broke off between the old databases and the
// new ones.
var ErrInterrupted = errors.New("a recovery of this data folder was interrupted")

// Interrupted says, with ErrInterrupted, that no node may run on a data folder
// before the recovery that was begun on it has come to its end.
func Interrupted(dataDir string) error {
	if _, err := os.Stat(filepath.Join(dataDir, recoveringDir, completeFile)); err == nil {
		return fmt.Errorf("%w: run `waystation recover --data-dir %s --accept-loss` again", ErrInterrupted, dataDir)
	}
	return nil
}

// finish ends a swap that was begun, and removes what one left that was not.
func finish(dataDir string) error {
	before, err := os.ReadFile(filepath.Join(dataDir, recoveringDir, completeFile))
	if errors.Is(err, os.ErrNotExist) {
		return os.RemoveAll(filepath.Join(dataDir, recoveringDir))
	}
	if err != nil {
		return err
	}
	return swap(dataDir, strings.TrimSpace(string(before)))
}

// complete says, durably, that the new databases are whole.
func complete(dataDir, before string) error {
	dir := filepath.Join(dataDir, recoveringDir)
	temp := filepath.Join(dir, completeFile+".tmp")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(before + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close(), syncDir(dir), syncDir(dataDir)); err != nil {
		return err
	}
	return errors.Join(os.Rename(temp, filepath.Join(dir, completeFile)), syncDir(dir))
}

// swap puts the new databases into the place of the old ones, which go into the
// folder before. It goes on where it broke off.
func swap(dataDir, before string) error {
	if before != filepath.Base(before) || !strings.HasPrefix(before, beforeDir) {
		return fmt.Errorf("%w: %s says %q", ErrDamaged, filepath.Join(dataDir, recoveringDir, completeFile), before)
	}
	old, made := filepath.Join(dataDir, before), filepath.Join(dataDir, recoveringDir)
	if err := os.MkdirAll(old, 0o750); err != nil {
		return err
	}
	for _, name := range []string{stateDir, logDir} {
		if !exists(filepath.Join(made, name)) {
			continue
		}
		if exists(filepath.Join(dataDir, name)) {
			if err := move(filepath.Join(dataDir, name), filepath.Join(old, name)); err != nil {
				return err
			}
		}
		if err := move(filepath.Join(made, name), filepath.Join(dataDir, name)); err != nil {
			return err
		}
	}
	return errors.Join(os.Remove(filepath.Join(made, completeFile)), os.Remove(made), syncDir(dataDir))
}

// move renames, durably.
func move(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(to)), syncDir(filepath.Dir(from)))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
