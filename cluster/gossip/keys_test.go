package gossip

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

func TestParseKeys(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want int
		err  string
	}{
		"one":       {key(1), 1, ""},
		"several":   {"# new\n" + key(1) + "\n\n  " + key(2) + "\r\n", 2, ""},
		"short key": {"MTIzNDU2Nzg5MDEyMzQ1Ng==", 1, ""},
		"empty":     {"\n# nothing\n", 0, "no key"},
		"no base64": {key(1) + "\nsecret word", 0, "line 2"},
		"size":      {"YWJj", 0, "3 bytes"},
		"twice":     {key(1) + "\n" + key(1), 0, "repeats"},
		"many":      {strings.Join(many(17), "\n"), 0, "17 keys"},
	} {
		got, err := parseKeys([]byte(c.text))
		if len(got) != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %d keys, %v", name, len(got), err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the line is in the error: %v", name, err)
		}
	}
}

func many(n int) (out []string) {
	for i := range n {
		out = append(out, key(byte(i)))
	}
	return out
}

// Keys change while readers walk over them, as memberlist does for each packet.
// A key that is in both files must be there at every moment in which it can be
// the one that others encrypt with.
func TestSetKeysUnderReaders(t *testing.T) {
	raw := func(ids ...byte) (out [][]byte) {
		for _, id := range ids {
			out = append(out, slices.Repeat([]byte{id}, 32))
		}
		return out
	}
	ring, err := memberlist.NewKeyring(raw(1, 2, 3), raw(1)[0])
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				seen := map[byte]bool{}
				for _, k := range ring.GetKeys() {
					if seen[k[0]] {
						t.Errorf("key %d twice", k[0])
					}
					seen[k[0]] = true
				}
				if !seen[1] {
					t.Error("the key that is in all files is missing")
				}
			}
		})
	}
	for range 500 {
		for _, want := range [][]byte{{1, 2, 3, 4}, {1, 4}, {1}, {1, 2, 3}} {
			if err := setKeys(ring, raw(want...)); err != nil {
				t.Fatal(err)
			}
			got := ring.GetKeys()
			sorted := slices.SortedFunc(slices.Values(got), bytes.Compare)
			if !slices.EqualFunc(sorted, raw(want...), bytes.Equal) || !bytes.Equal(got[0], raw(want[0])[0]) {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	}
	close(stop)
	readers.Wait()
}

// The rotation that ReloadKeys' comment describes, with changes of records going
// round all the while.
func TestRotateKeysUnderWay(t *testing.T) {
	var all []*Gossip
	var files []string
	for id := byte(1); id <= 3; id++ {
		files = append(files, keyFile(t, 1))
		g := start(t, id, keys(files[id-1]))
		if id > 1 {
			join(t, g, all[0])
		}
		all = append(all, g)
	}
	boot := uint64(1)
	told := func() {
		boot++
		for _, g := range all {
			if err := g.UpdateMeta(Meta{Node: g.config.Meta.Node, Boot: boot}); err != nil {
				t.Fatal(err)
			}
		}
		for _, g := range all {
			await(t, "all records come through", func() bool {
				return len(g.Members()) == 3 && !slices.ContainsFunc(g.Members(), func(m Member) bool { return m.Boot != boot })
			})
		}
	}
	told()
	for _, file := range [][]byte{{1, 2}, {2, 1}, {2}} {
		for i, g := range all {
			writeKeys(t, files[i], file...)
			if err := g.ReloadKeys(); err != nil {
				t.Fatal(err)
			}
			told()
		}
	}
	if got := all[0].ring.GetKeys(); len(got) != 1 || got[0][0] != 2 {
		t.Fatalf("keys at the end: %v", got)
	}
	late := start(t, 4, keys(keyFile(t, 1)))
	if _, err := late.Join(t.Context(), []string{all[0].Address().String()}); err == nil {
		t.Fatal("the old key still opens the door")
	}
}

func TestReloadKeepsTheOldKeysOnAnError(t *testing.T) {
	file := keyFile(t, 1)
	g := start(t, 1, keys(file))
	for _, text := range []string{"", "not base64!", "YWJj"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := g.ReloadKeys(); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := g.ReloadKeys(); err == nil {
		t.Error("a missing file was taken")
	}
	if got := g.ring.GetKeys(); len(got) != 1 || got[0][0] != 1 {
		t.Fatalf("keys: %v", got)
	}
	if err := start(t, 2).ReloadKeys(); err == nil {
		t.Error("a node without keys reloaded them")
	}
}

// With a key, any address may be bound; a wildcard advertises a real one.
func TestWildcardWithAKey(t *testing.T) {
	g, err := tryStart(t, 1, keys(keyFile(t, 1)), bind(netip.MustParseAddrPort("127.0.0.1:0")), func(c *Config) {
		c.Advertise = netip.MustParseAddrPort("192.0.2.7:0")
	})
	if err != nil {
		t.Fatal(err)
	}
	if at := g.Address(); at.Addr().String() != "192.0.2.7" || int(at.Port()) != g.Port() {
		t.Fatalf("advertised %v, port %d", at, g.Port())
	}
	at, err := advertised(Config{Bind: netip.MustParseAddrPort("0.0.0.0:0")}, 5)
	if err == nil && (at.Addr().IsUnspecified() || at.Port() != 5) {
		t.Fatalf("wildcard advertises %v", at)
	}
	if err != nil && !strings.Contains(err.Error(), "--advertise") {
		t.Fatal(err)
	}
}

// Files that change are enough: nobody calls ReloadKeys, and in between a file is
// one that cannot be used.
func TestKeysOfChangedFiles(t *testing.T) {
	soon := func(c *Config) { c.reread = 20 * time.Millisecond }
	files := []string{keyFile(t, 1), keyFile(t, 1)}
	one, two := start(t, 1, keys(files[0]), soon), start(t, 2, keys(files[1]), soon)
	join(t, two, one)
	sees(t, one, 1, 2)
	putFile(t, files[0], "half a li")
	await(t, "the bad file to be told of", func() bool { return count(t, one, "key_reload_errors_total", "") == 1 })
	writeKeys(t, files[0], 3)
	await(t, "a file without the key in use to be told of", func() bool { return count(t, one, "key_reload_errors_total", "") == 2 })
	for round, file := range [][]byte{{1, 2}, {2, 1}, {2}} {
		for i, g := range []*Gossip{one, two} {
			writeKeys(t, files[i], file...)
			await(t, "the new keys", func() bool { return count(t, g, "key_reloads_total", "") >= float64(round+1) })
		}
	}
	sees(t, one, 1, 2)
	sees(t, two, 1, 2)
	if _, err := start(t, 3, keys(keyFile(t, 2))).Join(t.Context(), []string{one.Address().String()}); err != nil {
		t.Errorf("the new key does not open the door: %v", err)
	}
	if _, err := start(t, 4, keys(keyFile(t, 1))).Join(t.Context(), []string{one.Address().String()}); !errors.Is(err, ErrKey) {
		t.Errorf("the old key: %v", err)
	}
}
