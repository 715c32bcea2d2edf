package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Validate joins everything that is wrong with c; each fault names its flag and
// what to do. It changes nothing and looks at nothing outside.
func (c *Config) Validate() error {
	v := validator{insecure: c.Insecure, gossipKey: c.GossipKeyFile != "", peerTLS: c.PeerCert != ""}
	v.addresses(c)
	v.node(c)
	v.cluster(c)
	v.limits(&c.Limits)
	v.seed(&c.Seed)
	return errors.Join(v.errs...)
}

type validator struct {
	insecure, gossipKey, peerTLS bool

	errs []error
}

func (v *validator) fail(flag, format string, args ...any) {
	v.errs = append(v.errs, fmt.Errorf("--%s: %s", flag, fmt.Sprintf(format, args...)))
}

func (v *validator) addresses(c *Config) {
	taken := make(map[string]string)
	for _, a := range []struct{ flag, addr string }{
		{"listen", c.Listen}, {"http", c.HTTP}, {"gossip", c.Gossip}, {"peer", c.Peer},
	} {
		host, port, err := net.SplitHostPort(a.addr)
		if err != nil {
			v.fail(a.flag, "%q is no address: want host:port, such as 127.0.0.1:7400", a.addr)
			continue
		}
		if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
			v.fail(a.flag, "port %q: want 0 to 65535; 0 takes a free one", port)
			continue
		}
		if other, ok := taken[a.addr]; ok && port != "0" {
			v.fail(a.flag, "%s is the address of --%s too: give each its own port", a.addr, other)
		}
		taken[a.addr] = a.flag
		v.reach(a.flag, host, a.addr)
	}
}

// reach refuses what the network could reach and nothing protects.
func (v *validator) reach(flag, host, addr string) {
	if LoopbackHost(host) {
		return
	}
	switch {
	case flag == "gossip" && !v.gossipKey:
		v.fail(flag, "%s is beyond loopback, where anybody could join: name a key with --gossip-key-file", addr)
	case flag == "peer" && !v.peerTLS && !v.insecure:
		v.fail(flag, "%s is beyond loopback, where anybody could read and change what is replicated: give --peer-cert, --peer-key and --peer-ca, or accept that with --insecure", addr)
	case flag != "gossip" && flag != "peer" && !v.insecure:
		v.fail(flag, "%s is beyond loopback, where anybody could read and send packets: bind 127.0.0.1, or accept that with --insecure", addr)
	}
}

// LoopbackHost reports whether host, a name or an address without port, can be
// reached from this machine only.
func LoopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func (v *validator) node(c *Config) {
	if c.DataDir == "" {
		v.fail("data-dir", "is empty: name a folder, such as ./waystation-data")
	}
	if !label(c.Name) {
		v.fail("name", "%q: want 1 to 64 printable characters", c.Name)
	}
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		v.fail("log-level", "%q: want debug, info, warn or error", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		v.fail("log-format", "%q: want text or json", c.LogFormat)
	}
	duration(v, "drain-timeout", c.DrainTimeout, 0, time.Hour)
	if c.MemoryLimit != 0 && c.MemoryLimit < 128*MiB {
		v.fail("memory-limit", "%v is too little: a node needs 128MiB; 0 follows GOMEMLIMIT and the cgroup", c.MemoryLimit)
	}
}

func (v *validator) cluster(c *Config) {
	if !label(c.ClusterName) {
		v.fail("cluster-name", "%q: want 1 to 64 printable characters", c.ClusterName)
	}
	v.join(c)
	between(v, "partitions", c.Partitions, 1, 1024)
	if c.Replication != 1 && c.Replication != 3 && c.Replication != 5 {
		v.fail("replication", "%d: want 1, 3 or 5; an even number survives no more than one less", c.Replication)
	}
	between(v, "bootstrap-expect", c.BootstrapExpect, 1, 9)
	if c.BootstrapExpect > 1 && (c.Join == "auto" || c.Join == "none") {
		v.fail("bootstrap-expect", "%d nodes that found a cluster must know of each other: name them with --join", c.BootstrapExpect)
	}
	duration(v, "replace-after", c.ReplaceAfter, 10*time.Second, 30*day)
	if c.Zone != "" && !label(c.Zone) {
		v.fail("zone", "%q: want at most 64 printable characters", c.Zone)
	}
	if ip, err := netip.ParseAddr(c.Advertise); err == nil && ip.IsUnspecified() {
		v.fail("advertise", "%s is no address that others could reach: name this machine's", c.Advertise)
	}
	if (c.PeerCert == "") != (c.PeerKey == "") || (c.PeerCert == "") != (c.PeerCA == "") {
		v.fail("peer-cert", "TLS between the nodes takes all three: --peer-cert, --peer-key and --peer-ca")
	}
	if _, _, err := net.SplitHostPort(c.Advertise); err == nil || strings.ContainsAny(c.Advertise, " ,/[]") {
		v.fail("advertise", "%q: want a host without a port, such as 10.0.0.7; the ports are those that are listened on", c.Advertise)
	}
}

// join takes auto, none, or addresses.
func (v *validator) join(c *Config) {
	if c.Join == "auto" || c.Join == "none" {
		return
	}
	for _, addr := range c.JoinAddresses() {
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "" || port == "0" {
			v.fail("join", "%q: want auto, none, or gossip addresses with commas, such as 10.0.0.7:7402,10.0.0.8:7402", addr)
		}
	}
	if len(c.JoinAddresses()) == 0 {
		v.fail("join", "is empty: want auto, none, or gossip addresses with commas")
	}
}

func (v *validator) limits(l *Limits) {
	between(v, "max-content-bytes", l.ContentBytes, 1, 8*MiB)
	between(v, "max-repo-id-bytes", l.RepoIDBytes, 1, 512)
	between(v, "max-packet-id-bytes", l.PacketIDBytes, 1, 256)
	between(v, "max-metadata-pairs", l.MetadataPairs, 0, 64)
	between(v, "max-metadata-bytes", l.MetadataBytes, 0, 16*KiB)
	between(v, "max-frame-bytes", l.FrameBytes, 4*KiB, 4*MiB)
	between(v, "max-frame-packets", l.FramePackets, 1, 1024)
	between(v, "mailbox-packets", l.MailboxPackets, 1, 1<<20)
	between(v, "mailbox-bytes", l.MailboxBytes, 64*KiB, GiB)
	if l.IntakeBytes != 0 {
		between(v, "intake-bytes", l.IntakeBytes, MiB, TiB)
	}
	between(v, "max-actors", l.Actors, 1, 10_000_000)
	duration(v, "linger", l.Linger, 0, time.Second)
	between(v, "disk-reserve", l.DiskReserve, 0, 1024*TiB)
}

func (v *validator) seed(s *Seed) {
	duration(v, "dedup-window", s.DedupWindow, time.Minute, 7*day)
	duration(v, "retention", s.Retention, time.Minute, 3650*day)
	if s.RetentionBytes != 0 {
		between(v, "retention-bytes", s.RetentionBytes, 64*MiB, 1024*TiB)
	}
	duration(v, "dead-retention", s.DeadRetention, time.Minute, 3650*day)
	duration(v, "producer-idle", s.ProducerIdle, time.Minute, 3650*day)
	duration(v, "result-retention", s.ResultRetention, 0, 3650*day)
	between(v, "backlog-packets", s.BacklogPackets, 1, 1<<40)
	between(v, "backlog-bytes", s.BacklogBytes, KiB, 1024*TiB)
	between(v, "max-attempts", s.MaxAttempts, 1, 1000)
	duration(v, "backoff-base", s.BackoffBase, time.Millisecond, day)
	duration(v, "backoff-max", s.BackoffMax, s.BackoffBase, 7*day)
	duration(v, "lease", s.Lease, time.Second, 12*time.Hour)
	between(v, "max-batch", s.MaxBatch, 1, 1024)
}

func between[T int | int64 | Bytes](v *validator, flag string, n, low, high T) {
	if n < low || n > high {
		v.fail(flag, "%v: want %v to %v", n, low, high)
	}
}

func duration(v *validator, flag string, d, low, high time.Duration) {
	if d < low || d > high {
		v.fail(flag, "%v: want %v to %v", d, low, high)
	}
}

func label(s string) bool {
	if s == "" || len(s) > 64 || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return true
}
