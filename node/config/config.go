// Package config holds a node's settings: their defaults, where they come from
// (flag over WAYSTATION_… variable over file over default), and what is wrong
// with them. It also knows the endpoints file by which local tools find a node.
package config

import (
	"strings"
	"time"
)

// Config is a node's settings. Each field has a flag of the same name.
type Config struct {
	Listen string // gRPC address, host:port; port 0 takes a free one
	HTTP   string // HTTP address
	Gossip string // membership's address, TCP and UDP
	Peer   string // where the other nodes replicate to and call this one

	DataDir     string // folder of everything durable; made when missing
	Name        string // label of this node; the host's name by default
	ClusterName string
	Join        string // auto, none, or gossip addresses with commas
	Advertise   string // host under which the other nodes reach this one; "": where it listens
	Zone        string // what fails together: copies are spread over zones
	File        string // the settings file, if any
	Insecure    bool   // allows addresses beyond loopback without keys and TLS

	Partitions      int           // of a new cluster
	Replication     int           // voters of a partition: 1, 3 or 5
	BootstrapExpect int           // nodes that found a cluster together
	ReplaceAfter    time.Duration // a node that is gone for so long gives its replicas to others
	GossipKeyFile   string        // base64 keys, one a line; the first encrypts
	PeerCert        string        // PEM files of TLS between the nodes: certificate,
	PeerKey         string        // its key,
	PeerCA          string        // and who signs the nodes' certificates

	LogLevel     string        // debug, info, warn or error
	LogFormat    string        // text or json
	DrainTimeout time.Duration // how long a stop waits for what is in flight

	MemoryLimit Bytes // 0: follows GOMEMLIMIT, the cgroup, the machine
	Limits      Limits
	Seed        Seed

	given map[string]bool // flags that were set, by whatever means
}

// Limits bound what one node holds and takes in.
type Limits struct {
	ContentBytes  Bytes // of one packet
	RepoIDBytes   int
	PacketIDBytes int
	MetadataPairs int
	MetadataBytes Bytes // keys and values together
	FrameBytes    Bytes // of a frame with more than one packet
	FramePackets  int

	MailboxPackets int           // of one repository
	MailboxBytes   Bytes         // of one repository
	IntakeBytes    Bytes         // of the node; 0: an eighth of the memory limit
	Actors         int           // live repository actors
	Linger         time.Duration // longest wait of a lone packet for company
	DiskReserve    Bytes         // publishing stops when less is free
}

// Seed is what a new cluster starts with. In a cluster that exists, the settings
// are in its own log, and these are ignored.
type Seed struct {
	DedupWindow     time.Duration
	Retention       time.Duration
	RetentionBytes  Bytes // of all partitions together; 0: none
	DeadRetention   time.Duration
	ProducerIdle    time.Duration
	ResultRetention time.Duration
	BacklogPackets  int64
	BacklogBytes    Bytes

	MaxAttempts int
	BackoffBase time.Duration
	BackoffMax  time.Duration
	Lease       time.Duration
	MaxBatch    int
}

// Default is the contract's defaults. Name is left empty: Load fills it in.
func Default() Config {
	return Config{
		Listen: "127.0.0.1:7400", HTTP: "127.0.0.1:7401", Gossip: "127.0.0.1:7402", Peer: "127.0.0.1:7403",
		DataDir: "./waystation-data", ClusterName: "waystation", Join: "auto",
		Partitions: 16, Replication: 3, BootstrapExpect: 1, ReplaceAfter: 10 * time.Minute,
		LogLevel: "info", LogFormat: "text", DrainTimeout: 10 * time.Second,
		Limits: Limits{
			ContentBytes: 8 * MiB, RepoIDBytes: 512, PacketIDBytes: 256, MetadataPairs: 64, MetadataBytes: 16 * KiB,
			FrameBytes: 4 * MiB, FramePackets: 1024,
			MailboxPackets: 1024, MailboxBytes: 8 * MiB, Actors: 50_000, Linger: 2 * time.Millisecond,
			DiskReserve: 256 * MiB,
		},
		Seed: Seed{
			DedupWindow: time.Hour, Retention: 7 * day, DeadRetention: 30 * day, ProducerIdle: 7 * day,
			ResultRetention: time.Hour, BacklogPackets: 1_000_000, BacklogBytes: GiB,
			MaxAttempts: 5, BackoffBase: time.Second, BackoffMax: 5 * time.Minute, Lease: 30 * time.Second, MaxBatch: 32,
		},
	}
}

const day = 24 * time.Hour

// JoinAddresses are the gossip addresses that Join names; none for auto and none.
func (c *Config) JoinAddresses() []string {
	if c.Join == "auto" || c.Join == "none" {
		return nil
	}
	var out []string
	for part := range strings.SplitSeq(c.Join, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// Given says that a flag was set, by whatever means: on the command line, in the
// environment or in the settings file.
func (c *Config) Given(flag string) bool { return c.given[flag] }
