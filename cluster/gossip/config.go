package gossip

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

// Profile names the topology that the timers are for.
type Profile string

// The profiles. Local is for one machine and finds a failure within a few
// seconds; LAN and WAN are memberlist's own.
const (
	Local Profile = "local"
	LAN   Profile = "lan"
	WAN   Profile = "wan"
)

// DefaultPort is gossip's port where an address names none.
const DefaultPort = 7402

// Config is what a Gossip needs.
type Config struct {
	// Cluster is the configured cluster name, 1 to 255 bytes.
	Cluster string
	// Bind is the IP and port to listen on, for UDP and TCP alike. Port 0 takes a
	// free one; Address tells which. A wildcard IP needs Advertise, or a private
	// address on one of the machine's interfaces.
	Bind netip.AddrPort
	// Advertise is what others reach this node under; the zero value is Bind.
	// Port 0 is the port that is listened on.
	Advertise netip.AddrPort
	// KeyFile holds the keys, or is empty: then nothing is encrypted, and Bind
	// must be a loopback address. Its changes are taken within a few seconds.
	KeyFile string
	// Meta is what this node tells of itself at first. Its node id is required.
	Meta Meta
	// Profile is Local, LAN or WAN.
	Profile Profile
	// OnConflict is told, from a goroutine of the package, when two running
	// processes have the same node id. It may block, but not on Stop; it may be nil.
	OnConflict func(Conflict)
	// Dial opens a stream to another node; nil: over the network as it is.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Resolver looks names up, afresh at each try to join.
	Resolver Resolver
	// Random is crypto/rand.Reader, or a seeded source.
	Random     io.Reader
	Logger     *slog.Logger
	Registerer prometheus.Registerer

	// cut says that nothing reaches an address: a network partition in tests.
	cut func(addr string) bool
	// tune changes memberlist's timers in tests, reread how often the key file is
	// looked at.
	tune   func(*memberlist.Config)
	reread time.Duration
}

// Resolver turns a host name into addresses. net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// DefaultConfig is a Config for one machine, on a free port. Cluster, Meta,
// Logger and Registerer are for the caller to set.
func DefaultConfig() Config {
	return Config{
		Bind:     netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0),
		Profile:  Local,
		Resolver: net.DefaultResolver,
		Random:   rand.Reader,
	}
}

// Validate returns all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if n := len(c.Cluster); n < 1 || n > memberlist.LabelMaxSize {
		fail("cluster name: %d bytes, 1 to %d are allowed", n, memberlist.LabelMaxSize)
	}
	if !c.Bind.IsValid() {
		fail("bind address is missing")
	} else if c.KeyFile == "" && !c.Bind.Addr().IsLoopback() {
		fail("%w: %s is not a loopback address; name a key file, or bind to 127.0.0.1", ErrNoKey, c.Bind)
	}
	if _, err := c.Meta.Encode(); err != nil {
		fail("%w", err)
	}
	if c.Meta.Node.IsZero() {
		fail("node id is missing")
	}
	if c.Profile != Local && c.Profile != LAN && c.Profile != WAN {
		fail("profile %q: local, lan or wan", c.Profile)
	}
	if c.Resolver == nil || c.Random == nil || c.Logger == nil || c.Registerer == nil {
		fail("resolver, random source, logger and registerer are required")
	}
	return errors.Join(errs...)
}

func (c Config) keysAgain() time.Duration {
	if c.reread > 0 {
		return c.reread
	}
	return keysAgain
}

// pace is what the package's own loop goes by.
type pace struct {
	first, most time.Duration // between tries while alone
	insist      time.Duration // between pushes while others hold an earlier life to be alive
	lost        time.Duration // between tries to reach members that failed
}

func (c Config) pace() pace {
	switch c.Profile {
	case LAN:
		return pace{500 * time.Millisecond, 15 * time.Second, 2 * time.Second, 30 * time.Second}
	case WAN:
		return pace{time.Second, 30 * time.Second, 10 * time.Second, time.Minute}
	}
	return pace{100 * time.Millisecond, 2 * time.Second, 500 * time.Millisecond, 3 * time.Second}
}

// timers is memberlist's configuration for the profile.
func (c Config) timers() *memberlist.Config {
	switch c.Profile {
	case LAN:
		return memberlist.DefaultLANConfig()
	case WAN:
		return memberlist.DefaultWANConfig()
	}
	m := memberlist.DefaultLocalConfig()
	// Two transmissions, its default, may both ride on pings to one node; the
	// other nodes then hear nothing until the next full exchange.
	m.RetransmitMult = 4
	m.GossipInterval = 200 * time.Millisecond // as in a LAN: each one wakes an idle node
	m.ProbeInterval = 500 * time.Millisecond
	m.ProbeTimeout = 250 * time.Millisecond
	m.SuspicionMaxTimeoutMult = 3
	m.TCPTimeout = 3 * time.Second
	m.PushPullInterval = 10 * time.Second
	return m
}

// memberlist is the configuration for the library.
func (c Config) memberlist(t *transport, d *delegate, ring *memberlist.Keyring) *memberlist.Config {
	m := c.timers()
	m.Name = c.Meta.Node.String()
	m.Label = c.Cluster
	m.Transport = t
	m.BindAddr = c.Bind.Addr().String()
	m.BindPort = t.port
	m.AdvertiseAddr = t.advertise.Addr().String()
	m.AdvertisePort = int(t.advertise.Port())
	m.Keyring = ring
	m.EnableCompression = false // a few hundred bytes each: not worth their while
	m.Delegate, m.Events, m.Conflict, m.Alive = d, d, d, d
	// A node that comes back under another address takes its name over as soon as
	// the old address is known to be dead; by default it never could.
	m.DeadNodeReclaimTime = time.Nanosecond
	if c.tune != nil {
		c.tune(m)
	}
	return m
}
