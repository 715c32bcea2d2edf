package discovery

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Home is the folder in which the nodes of one user on one machine meet.
type Home struct {
	dir  string
	host string
	// beforeLock is called in tests between the look and the lock, wait after each
	// look that says to look again.
	beforeLock, wait func()
}

// OpenHome creates the folder if it is absent. An empty dir is the usual place:
// the user's cache folder, or without one a folder of the user's below the
// system's temporary one. It is refused if others may write into it.
//
// The cache folder is the same in every session of a user; XDG_RUNTIME_DIR is
// not set in all of them and is cleared when the last one ends, while a node
// runs on. It may lie on a network drive, so each machine has a folder in it.
func OpenHome(dir string) (*Home, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("open the nodes' meeting place: %w", err)
	}
	if dir == "" {
		dir = filepath.Join(usualPlace(), safe(host))
	}
	h := &Home{dir: dir, host: host}
	if err := private(dir); err != nil {
		return nil, fmt.Errorf("open the nodes' meeting place: %w", err)
	}
	return h, nil
}

func usualPlace() string {
	if cache, err := os.UserCacheDir(); err == nil && os.MkdirAll(filepath.Join(cache, "waystation"), 0o700) == nil {
		return filepath.Join(cache, "waystation")
	}
	return filepath.Join(os.TempDir(), "waystation-"+strconv.Itoa(os.Getuid()))
}

// safe keeps a host name to one element of a path.
func safe(host string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r == ':' || r < ' ' {
			return '-'
		}
		return r
	}, "on-"+host)
}

// private creates a folder of the user's own, and refuses one that is not.
func private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s may be written by others (mode %o): remove it, or chmod 700", dir, info.Mode().Perm())
	}
	return nil
}

// of returns a cluster name's part of the folder. Names may hold what paths can't.
func (h *Home) of(cluster string) string {
	sum := sha256.Sum256([]byte(cluster))
	return filepath.Join(h.dir, "cluster-"+hex.EncodeToString(sum[:8]))
}

func (h *Home) nodes(cluster string) string { return filepath.Join(h.of(cluster), "nodes") }

func (h *Home) first(cluster string) string { return filepath.Join(h.of(cluster), "first") }
