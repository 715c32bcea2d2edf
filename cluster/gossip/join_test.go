package gossip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestJoinSaysWhatIsWrong(t *testing.T) {
	one, two, both := keyFile(t, 1), keyFile(t, 2), keyFile(t, 2, 1)
	stranger, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var closing sync.WaitGroup
	defer closing.Wait()
	defer stranger.Close()
	closing.Go(func() {
		for {
			c, err := stranger.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = c.Close()
		}
	})
	gone := start(t, 99, lasting(t))
	if err := gone.Stop(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		here, there option
		want        error
		text        string
	}{
		"other name":       {cluster("red"), cluster("blue"), ErrLabel, `"blue"`},
		"other key":        {keys(one), keys(two), ErrKey, "encrypts with"},
		"key only here":    {keys(one), cluster("test"), ErrKey, "this node encrypts"},
		"key only there":   {cluster("test"), keys(one), ErrKey, "that node encrypts"},
		"their key is new": {keys(one), keys(both), ErrKey, "is not in this node's file"},
		"our key is new":   {keys(both), keys(one), ErrKey, "not among that node's"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := start(t, 1, c.here), start(t, 2, c.there)
			n, err := a.Join(t.Context(), []string{b.Address().String()})
			if n != 0 || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("%d, %v", n, err)
			}
			if len(a.Members()) != 1 || len(b.Members()) != 1 {
				t.Fatalf("they see each other: %v %v", ids(a), ids(b))
			}
		})
	}
	a := start(t, 1)
	copied := start(t, 1)
	for name, c := range map[string]struct {
		at   string
		want error
	}{
		"itself":     {a.Address().String(), ErrSelf},
		"a copy":     {copied.Address().String(), ErrCopied},
		"a stranger": {stranger.Addr().String(), ErrForeign},
		"nobody":     {gone.Address().String(), nil},
		"no port":    {"127.0.0.1:", nil},
		"bad port":   {"127.0.0.1:99999", nil},
	} {
		if n, err := a.Join(t.Context(), []string{c.at}); n != 0 || err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	// A list that all nodes share holds oneself: that is no reason to complain.
	if _, err := a.Join(t.Context(), []string{a.Address().String(), gone.Address().String()}); err == nil || errors.Is(err, ErrSelf) {
		t.Errorf("itself and another: %v", err)
	}
	if _, err := a.Join(t.Context(), nil); err == nil {
		t.Error("an empty list was joined")
	}
}

// names is a resolver whose answers change.
type names struct {
	mu    sync.Mutex
	at    []netip.Addr
	err   error
	asked int
}

func (n *names) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	return slices.Clone(n.at), n.err
}

func (n *names) set(err error, at ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at, n.err, n.asked = at, err, 0
}

func (n *names) tries() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

// Names are looked up at each try: what they point to may not be there yet.
func TestKeepJoiningLooksNamesUpAgain(t *testing.T) {
	var dns names
	dns.set(errors.New("no such host"))
	b := start(t, 2)
	a := start(t, 1, func(c *Config) { c.Resolver = &dns })
	a.KeepJoining([]string{net.JoinHostPort("relay.example", portOf(b))})
	await(t, "two tries", func() bool { return dns.tries() >= 2 })
	dns.set(nil, netip.MustParseAddr("127.0.0.99"))
	await(t, "two tries", func() bool { return dns.tries() >= 2 })
	dns.set(nil, netip.MustParseAddr("127.0.0.99"), netip.MustParseAddr("127.0.0.1"))
	sees(t, a, 1, 2)
	sees(t, b, 1, 2)
	if count(t, a, "joins_total", "error") == 0 {
		t.Error("failed tries are not counted")
	}
}

// Who is alone again joins again, wherever the name points to by then.
func TestKeepJoiningWhenAloneAgain(t *testing.T) {
	var dns names
	b := start(t, 2, lasting(t))
	at := b.Address()
	dns.set(nil, netip.MustParseAddr("127.0.0.1"))
	a := start(t, 1, func(c *Config) { c.Resolver = &dns })
	a.KeepJoining([]string{net.JoinHostPort("relay.example", portOf(b))})
	sees(t, a, 1, 2)
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	sees(t, a, 1)
	start(t, 3, bind(at))
	sees(t, a, 1, 3)
	a.KeepJoining(nil)
}

// The addresses may be told anew at each try.
func TestKeepJoiningFromWhatIsThere(t *testing.T) {
	a := start(t, 1)
	var there atomic.Pointer[[]string]
	var asked atomic.Int32
	a.KeepJoiningFrom(func(context.Context) []string {
		asked.Add(1)
		if list := there.Load(); list != nil {
			return *list
		}
		return nil
	})
	await(t, "two tries", func() bool { return asked.Load() >= 2 })
	there.Store(&[]string{start(t, 2).Address().String()})
	sees(t, a, 1, 2)
}

func portOf(g *Gossip) string {
	_, port, _ := net.SplitHostPort(g.Address().String())
	return port
}

func TestSplitPort(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a 7402", "a:1": "a 1", "::1": "::1 7402", "[::1]:9": "::1 9", "10.0.0.1": "10.0.0.1 7402",
		"": "", "a:": "", "a:0": "", "a:b": "", "a:70000": "", "a:1:2": "",
	} {
		host, port, err := splitPort(in)
		got := ""
		if err == nil {
			got = host + " " + netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()[len("0.0.0.0:"):]
		}
		if got != want {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
	}
}
