package gossip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

func TestThreeJoinAndTell(t *testing.T) {
	a, b, c := start(t, 1), start(t, 2), start(t, 3)
	join(t, b, a)
	join(t, c, b)
	for _, g := range []*Gossip{a, b, c} {
		sees(t, g, 1, 2, 3)
	}
	m := Meta{Node: node(3), Boot: 9, State: Serving, Name: "third", Zone: "z", Version: "v1", GRPC: "127.0.0.1:7400", Expect: 3}
	if err := c.UpdateMeta(m); err != nil {
		t.Fatal(err)
	}
	for _, g := range []*Gossip{a, b, c} {
		await(t, "the new record is seen", func() bool {
			got, ok := find(g, 3)
			return ok && got.Meta == m && got.Address == c.Address() && got.Self == (g == c)
		})
	}
}

// A subscriber that does not read must not hold gossip up, and finds one signal.
func TestSubscriptionCoalesces(t *testing.T) {
	a := start(t, 1)
	idle, reader := a.Subscribe(), a.Subscribe()
	defer idle.Close()
	for id := byte(2); id <= 5; id++ {
		join(t, start(t, id), a)
	}
	for len(ids(a)) < 5 {
		select {
		case <-reader.C:
		case <-time.After(patience):
			t.Fatalf("no signal with %v", ids(a))
		}
	}
	reader.Close()
	reader.Close()
	if len(idle.C) != 1 {
		t.Fatalf("%d signals wait", len(idle.C))
	}
}

// A node that ends without leaving is found out; one that leaves is gone at once,
// and is not looked for.
func TestFailureAndLeave(t *testing.T) {
	a, b, c := start(t, 1), start(t, 2), start(t, 3)
	join(t, b, a)
	join(t, c, a)
	for _, g := range []*Gossip{a, b, c} {
		sees(t, g, 1, 2, 3)
	}
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	sees(t, a, 1, 3)
	sees(t, c, 1, 3)
	if at, ok := a.lost.pick(0); !ok || at != b.Address() {
		t.Errorf("the failed member is not looked for: %v", at)
	}
	for range 2 {
		if err := c.Leave(t.Context(), patience); err != nil {
			t.Fatal(err)
		}
	}
	sees(t, a, 1)
	for n := range uint64(2) {
		if at, ok := a.lost.pick(n); ok && at == c.Address() {
			t.Error("who left is looked for")
		}
	}
	if _, err := c.Join(t.Context(), []string{a.Address().String()}); !errors.Is(err, ErrStopped) {
		t.Errorf("join after leaving: %v", err)
	}
}

// A node that was killed and comes back under another port is the same member,
// also when the others have not found out yet that it was gone.
// It tells them itself: the next full exchange may be a minute away.
func TestBackUnderAnotherPort(t *testing.T) {
	alone := func(c *Config) { c.tune = func(m *memberlist.Config) { m.PushPullInterval = time.Hour } }
	a, b, c := start(t, 1, alone), start(t, 2, alone), start(t, 3, alone, lasting(t))
	join(t, b, a)
	join(t, c, a)
	sees(t, b, 1, 2, 3)
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", c.Address().String()) // so that another port is given
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	again := start(t, 3, alone, func(c *Config) {
		c.Meta.Boot = 2
		c.OnConflict = func(f Conflict) { t.Errorf("conflict %+v", f) }
	})
	again.KeepJoining([]string{a.Address().String()})
	for _, g := range []*Gossip{a, b} {
		await(t, "the new address is seen", func() bool {
			m, ok := find(g, 3)
			return ok && m.Address == again.Address() && m.Boot == 2
		})
	}
}

func TestStopTwiceAndLeaveAfterIt(t *testing.T) {
	g := start(t, 1)
	for range 2 {
		if err := g.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Leave(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if err := g.UpdateMeta(Meta{Node: node(1)}); err != nil {
		t.Fatal(err)
	}
}

// A node tells of its last record while it leaves: under the race detector this
// finds two updates of memberlist at a time.
func TestUpdateWhileLeaving(t *testing.T) {
	for range 20 {
		g := start(t, 1)
		if err := g.UpdateMeta(Meta{Node: node(1), State: Serving}); err != nil {
			t.Fatal(err)
		}
		if err := g.Leave(t.Context(), time.Second); err != nil {
			t.Fatal(err)
		}
		if m, ok := find(g, 1); ok && m.State != Leaving {
			t.Errorf("left as %v", m.State)
		}
		if err := g.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever stops gives its metrics and its port back.
func TestStartAgainOnTheSamePort(t *testing.T) {
	a := start(t, 1, lasting(t))
	at, registry := a.Address(), a.config.Registerer
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	b := start(t, 1, bind(at), func(c *Config) { c.Registerer = registry })
	if b.Address() != at {
		t.Fatalf("%v, want %v", b.Address(), at)
	}
	if _, err := tryStart(t, 2, bind(at)); err == nil {
		t.Fatal("a taken port was taken again")
	}
}

func TestConfigRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change option
		want   error
		text   string
	}{
		"wildcard without a key": {bind(netip.MustParseAddrPort("0.0.0.0:0")), ErrNoKey, "key file"},
		"public without a key":   {bind(netip.MustParseAddrPort("10.1.2.3:0")), ErrNoKey, "10.1.2.3"},
		"missing key file":       {keys("/nonexistent"), nil, "nonexistent"},
		"no cluster name":        {cluster(""), nil, "cluster name"},
		"long cluster name":      {cluster(strings.Repeat("x", 256)), nil, "256 bytes"},
		"meta too large":         {func(c *Config) { c.Meta.Zone = strings.Repeat("z", 500) }, ErrMeta, "512"},
		"no node id":             {func(c *Config) { c.Meta.Node = [16]byte{} }, nil, "node id"},
		"no profile":             {func(c *Config) { c.Profile = "x" }, nil, "profile"},
	} {
		_, err := tryStart(t, 1, c.change)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMetaTooLargeIsRefusedLater(t *testing.T) {
	g := start(t, 1)
	big := g.Members()[0].Meta
	big.Name = strings.Repeat("n", MetaBytes)
	if err := g.UpdateMeta(big); !errors.Is(err, ErrMeta) {
		t.Fatalf("too large: %v", err)
	}
	if err := g.UpdateMeta(Meta{Node: node(2)}); !errors.Is(err, ErrMeta) {
		t.Fatalf("another node id: %v", err)
	}
	if len(g.Members()) != 1 {
		t.Fatal("the member is gone")
	}
}

// A split that lasts until memberlist has forgotten the other half must heal.
func TestPartitionHeals(t *testing.T) {
	forget := func(c *Config) { c.tune = func(m *memberlist.Config) { m.GossipToTheDeadTime = time.Millisecond } }
	var n network
	var all []*Gossip
	for id := byte(1); id <= 4; id++ {
		all = append(all, on(t, &n, id, forget))
		if id > 1 {
			join(t, all[id-1], all[0])
		}
	}
	for _, g := range all {
		sees(t, g, 1, 2, 3, 4)
	}
	n.set(all[2], 1)
	n.set(all[3], 1)
	for i, g := range all {
		sees(t, g, [][]byte{{1, 2}, {3, 4}}[i/2]...)
		await(t, "memberlist forgot the other half", func() bool { return g.list.NumMembers() == 2 })
	}
	n.set(all[2], 0)
	n.set(all[3], 0)
	for _, g := range all {
		sees(t, g, 1, 2, 3, 4)
	}
}

func TestLeaveEndsWithItsContext(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	join(t, b, a)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Leave(ctx, patience); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if !slices.Contains(ids(a), 1) {
		t.Fatal("the other one is gone too")
	}
}
