package config

import (
	"strings"

	"github.com/spf13/pflag"
)

// FlagGroup is flags that belong together in the usage text.
type FlagGroup struct {
	Title string
	Flags *pflag.FlagSet
}

// Groups binds c's fields to flags, in the order of the usage text.
func (c *Config) Groups() []FlagGroup {
	return []FlagGroup{
		{"Node", c.nodeFlags()},
		{"Cluster", c.clusterFlags()},
		{"Limits of this node", c.limitFlags()},
		{"Settings of a new cluster (one that exists keeps its own)", c.seedFlags()},
	}
}

func newSet() *pflag.FlagSet {
	fs := pflag.NewFlagSet("node", pflag.ContinueOnError)
	fs.SortFlags = false
	return fs
}

func (c *Config) nodeFlags() *pflag.FlagSet {
	fs := newSet()
	fs.StringVar(&c.Listen, "listen", c.Listen, "gRPC `address`; port 0 takes a free one")
	fs.StringVar(&c.HTTP, "http", c.HTTP, "HTTP `address`")
	fs.StringVar(&c.DataDir, "data-dir", c.DataDir, "`folder` of everything durable")
	fs.StringVar(&c.Name, "name", c.Name, "this node's `label` (default: the host's name)")
	fs.StringVar(&c.File, "config", c.File, "YAML `file` with these settings, by flag name")
	fs.BoolVar(&c.Insecure, "insecure", c.Insecure, "allow addresses beyond loopback without keys and TLS")
	fs.StringVar(&c.LogLevel, "log-level", c.LogLevel, "`level`: debug, info, warn or error")
	fs.StringVar(&c.LogFormat, "log-format", c.LogFormat, "`format`: text or json")
	fs.DurationVar(&c.DrainTimeout, "drain-timeout", c.DrainTimeout, "longest wait of a stop for what is in flight")
	fs.Var(&c.MemoryLimit, "memory-limit", "memory to live in; 0 follows GOMEMLIMIT, the cgroup, the machine")
	return fs
}

func (c *Config) clusterFlags() *pflag.FlagSet {
	fs := newSet()
	fs.StringVar(&c.ClusterName, "cluster-name", c.ClusterName, "cluster's `name`")
	fs.StringVar(&c.Join, "join", c.Join, "auto: nodes of this machine; none; or gossip `addresses` with commas")
	fs.StringVar(&c.Gossip, "gossip", c.Gossip, "gossip `address`, TCP and UDP")
	fs.StringVar(&c.Peer, "peer", c.Peer, "`address` for the other nodes")
	fs.StringVar(&c.Advertise, "advertise", c.Advertise, "`host` under which the others reach this node (default: where it listens)")
	fs.StringVar(&c.Zone, "zone", c.Zone, "`label` of what fails together, such as a rack; copies are spread over zones")
	fs.IntVar(&c.BootstrapExpect, "bootstrap-expect", c.BootstrapExpect, "`nodes` that found a cluster together, each told the same")
	fs.IntVar(&c.Partitions, "partitions", c.Partitions, "partitions of a new cluster; fixed for its life")
	fs.IntVar(&c.Replication, "replication", c.Replication, "`copies` of each partition that vote, as soon as there are so many nodes: 1, 3 or 5")
	fs.DurationVar(&c.ReplaceAfter, "replace-after", c.ReplaceAfter, "a node that is gone for so long gives its replicas to others")
	fs.StringVar(&c.GossipKeyFile, "gossip-key-file", c.GossipKeyFile, "`file` of base64 keys, one a line; the first encrypts gossip")
	fs.StringVar(&c.PeerCert, "peer-cert", c.PeerCert, "PEM `file`: this node's certificate for TLS between the nodes")
	fs.StringVar(&c.PeerKey, "peer-key", c.PeerKey, "PEM `file`: its key")
	fs.StringVar(&c.PeerCA, "peer-ca", c.PeerCA, "PEM `file`: who signs the nodes' certificates")
	return fs
}

func (c *Config) limitFlags() *pflag.FlagSet {
	fs, l := newSet(), &c.Limits
	fs.Var(&l.ContentBytes, "max-content-bytes", "content of one packet")
	fs.IntVar(&l.RepoIDBytes, "max-repo-id-bytes", l.RepoIDBytes, "`bytes` of a repository id")
	fs.IntVar(&l.PacketIDBytes, "max-packet-id-bytes", l.PacketIDBytes, "`bytes` of a packet id")
	fs.IntVar(&l.MetadataPairs, "max-metadata-pairs", l.MetadataPairs, "metadata `pairs` of one packet")
	fs.Var(&l.MetadataBytes, "max-metadata-bytes", "metadata of one packet, keys and values")
	fs.Var(&l.FrameBytes, "max-frame-bytes", "frame with more than one packet")
	fs.IntVar(&l.FramePackets, "max-frame-packets", l.FramePackets, "`packets` in one frame")
	fs.IntVar(&l.MailboxPackets, "mailbox-packets", l.MailboxPackets, "`packets` waiting in one repository's mailbox")
	fs.Var(&l.MailboxBytes, "mailbox-bytes", "bytes waiting in one repository's mailbox")
	fs.Var(&l.IntakeBytes, "intake-bytes", "bytes taken in and not yet durable; 0 is an eighth of the memory limit")
	fs.IntVar(&l.Actors, "max-actors", l.Actors, "live repository `actors`")
	fs.DurationVar(&l.Linger, "linger", l.Linger, "longest wait of a lone packet for company; 0 has no packet wait for others")
	fs.Var(&l.DiskReserve, "disk-reserve", "publishing stops when less disk is free")
	return fs
}

func (c *Config) seedFlags() *pflag.FlagSet {
	fs, s := newSet(), &c.Seed
	fs.DurationVar(&s.DedupWindow, "dedup-window", s.DedupWindow, "how long a packet id is remembered")
	fs.DurationVar(&s.Retention, "retention", s.Retention, "age at which packets end")
	fs.Var(&s.RetentionBytes, "retention-bytes", "bytes retained of all repositories together; 0: no bound")
	fs.DurationVar(&s.DeadRetention, "dead-retention", s.DeadRetention, "how long dead letters are kept")
	fs.DurationVar(&s.ProducerIdle, "producer-idle", s.ProducerIdle, "how long an idle producer's position is kept")
	fs.DurationVar(&s.ResultRetention, "result-retention", s.ResultRetention, "how long a worker's results are kept")
	fs.Int64Var(&s.BacklogPackets, "backlog-packets", s.BacklogPackets, "`packets` retained of one repository")
	fs.Var(&s.BacklogBytes, "backlog-bytes", "bytes retained of one repository")
	fs.IntVar(&s.MaxAttempts, "max-attempts", s.MaxAttempts, "attempts before a packet is a dead letter")
	fs.DurationVar(&s.BackoffBase, "backoff-base", s.BackoffBase, "delay after the first failure; doubles")
	fs.DurationVar(&s.BackoffMax, "backoff-max", s.BackoffMax, "longest delay after a failure")
	fs.DurationVar(&s.Lease, "lease", s.Lease, "a group's lease, unless its worker asks for another")
	fs.IntVar(&s.MaxBatch, "max-batch", s.MaxBatch, "`packets` of one repository in one grant")
	return fs
}

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "WAYSTATION_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}
