package gossip

import (
	"encoding/base64"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/internal/freeport"
)

const patience = 60 * time.Second

// network cuts addresses off from each other.
type network struct {
	mu     sync.Mutex
	island map[string]int // by gossip address; those that are missing are on 0
}

func (n *network) set(g *Gossip, island int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.island == nil {
		n.island = map[string]int{}
	}
	n.island[g.Address().String()] = island
}

// on starts g's node on the network.
func on(t *testing.T, n *network, id byte, options ...option) *Gossip {
	t.Helper()
	var self atomic.Pointer[string]
	self.Store(new(string))
	g := start(t, id, append(options, func(c *Config) {
		c.cut = func(to string) bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.island[*self.Load()] != n.island[to]
		}
	})...)
	at := g.Address().String()
	self.Store(&at)
	return g
}

func node(b byte) identity.NodeID { return identity.NodeID{b, 15: 1} }

type option func(*Config)

func start(t *testing.T, id byte, options ...option) *Gossip {
	t.Helper()
	g, err := tryStart(t, id, options...)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func tryStart(t *testing.T, id byte, options ...option) (*Gossip, error) {
	t.Helper()
	c := DefaultConfig()
	c.Cluster, c.Registerer, c.Logger = "test", prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		c.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("n", id)
	}
	c.Meta = Meta{Node: node(id), Boot: 1, Name: "n"}
	for _, o := range options {
		o(&c)
	}
	g, err := Start(c)
	if err == nil {
		t.Cleanup(func() {
			if err := g.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	return g, err
}

// await repeats look until it says yes.
func await(t *testing.T, what string, look func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !look() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// ids lists who g sees.
func ids(g *Gossip) []byte {
	var out []byte
	for _, m := range g.Members() {
		out = append(out, m.Node[0])
	}
	return out
}

func sees(t *testing.T, g *Gossip, want ...byte) {
	t.Helper()
	await(t, "the members are seen", func() bool { return slices.Equal(ids(g), want) })
}

func join(t *testing.T, g, other *Gossip) {
	t.Helper()
	if _, err := g.Join(t.Context(), []string{other.Address().String()}); err != nil {
		t.Fatal(err)
	}
}

func find(g *Gossip, id byte) (Member, bool) {
	i := slices.IndexFunc(g.Members(), func(m Member) bool { return m.Node == node(id) })
	if i < 0 {
		return Member{}, false
	}
	return g.Members()[i], true
}

func key(b byte) string {
	k := slices.Repeat([]byte{b}, 32)
	return base64.StdEncoding.EncodeToString(k)
}

func keyFile(t *testing.T, keys ...byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	writeKeys(t, path, keys...)
	return path
}

func writeKeys(t *testing.T, path string, keys ...byte) {
	t.Helper()
	lines := []string{"# keys of the test"}
	for _, k := range keys {
		lines = append(lines, key(k))
	}
	putFile(t, path, strings.Join(lines, "\n")+"\n")
}

// putFile replaces a file in one step: nobody reads half of it.
func putFile(t *testing.T, path, text string) {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// lasting binds to a port that nobody gets while it is free between two lives.
func lasting(t *testing.T) option {
	t.Helper()
	at, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return bind(netip.MustParseAddrPort(at))
}

func keys(path string) option { return func(c *Config) { c.KeyFile = path } }

func bind(at netip.AddrPort) option { return func(c *Config) { c.Bind = at } }

func cluster(name string) option { return func(c *Config) { c.Cluster = name } }

// count reads one of g's counters; label is the value of its one label, or empty.
func count(t *testing.T, g *Gossip, name, label string) float64 {
	t.Helper()
	families, err := g.config.Registerer.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "waystation_gossip_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if l := m.GetLabel(); len(l) == 0 || l[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}
