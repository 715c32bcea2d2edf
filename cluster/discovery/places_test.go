package discovery

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waystation/waystation/storage"
)

func TestPickDataDir(t *testing.T) {
	boom := errors.New("disk on fire")
	for name, c := range map[string]struct {
		there, locked string
		set           bool
		want          string
		err           error
	}{
		"nothing there":             {"", "", false, "d", nil},
		"free":                      {"d d-2", "", false, "d", nil},
		"locked":                    {"d", "d", false, "d-2", nil},
		"locked, and set":           {"d", "d", true, "", storage.ErrLocked},
		"the second is back":        {"d d-2", "d", false, "d-2", nil},
		"the third is back":         {"d d-2 d-3", "d d-2", false, "d-3", nil},
		"a gap: what is there wins": {"d d-3", "d", false, "d-3", nil},
		"a fourth":                  {"d d-2 d-3", "d d-2 d-3", false, "d-4", nil},
		"other errors end it":       {"d", "", false, "", boom},
	} {
		there, locked := strings.Fields(c.there), strings.Fields(c.locked)
		has := func(list []string, s string) bool {
			return strings.Contains(" "+strings.Join(list, " ")+" ", " "+s+" ")
		}
		got, l, err := PickDataDir("d", c.set, func(dir string) bool { return has(there, dir) }, func(dir string) (string, error) {
			if errors.Is(c.err, boom) {
				return "", boom
			}
			if has(locked, dir) {
				return "", storage.ErrLocked
			}
			return "lock of " + dir, nil
		})
		if !errors.Is(err, c.err) || err == nil && (got != c.want || l != "lock of "+c.want) {
			t.Errorf("%s: %q %q %v", name, got, l, err)
		}
	}
	if _, _, err := PickDataDir("d", false, func(string) bool { return true }, func(string) (int, error) { return 0, storage.ErrLocked }); !errors.Is(err, storage.ErrLocked) || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("all locked: %v", err)
	}
}

// With real folders: three nodes, all ended, find their own again in order.
func TestDataDirsAreFoundAgain(t *testing.T) {
	base := filepath.Join(t.TempDir(), "waystation-data")
	lock := func(dir string) (*storage.DirLock, error) { return storage.LockDir(nil, dir) }
	for range 2 {
		var held []*storage.DirLock
		for _, want := range []string{base, base + "-2", base + "-3"} {
			got, l, err := PickDataDir(base, false, Exists, lock)
			if err != nil || got != want {
				t.Fatalf("%q %v, want %q", got, err, want)
			}
			held = append(held, l)
		}
		for _, l := range held {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestPickPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	listen := func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
	looks := 0
	for name, c := range map[string]struct {
		addr string
		set  bool
		ours func(string) bool
		err  error
	}{
		"free":                  {"127.0.0.1:0", false, nil, nil},
		"ours":                  {addr, false, func(string) bool { return true }, nil},
		"ours, told of later":   {addr, false, func(string) bool { looks++; return looks > 2 }, nil},
		"a stranger's":          {addr, false, func(string) bool { return false }, ErrPortTaken},
		"ours, but set by flag": {addr, true, func(string) bool { return true }, errAny},
	} {
		l, err := PickPort(t.Context(), c.addr, c.set, c.ours, listen)
		switch {
		case err == nil:
			if l.Addr().String() == addr {
				t.Errorf("%s: the taken port", name)
			}
			_ = l.Close()
			if c.err != nil {
				t.Errorf("%s: no error", name)
			}
		case c.err == nil || !errors.Is(c.err, errAny) && !errors.Is(err, c.err):
			t.Errorf("%s: %v", name, err)
		}
	}
}

var errAny = errors.New("any")
