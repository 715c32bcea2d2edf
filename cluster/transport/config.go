package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// Config is what a transport is made from. The zero value of a size or a time
// is not a default: begin with DefaultConfig. The functions are called from the
// transport's goroutines, several at a time, and must not call Stop.
type Config struct {
	// Self, Boot and Life are this data folder's identity, Name its label.
	Self       identity.NodeID
	Boot, Life uint64
	Name       string
	// Cluster is zero as long as this node belongs to none: until SetCluster it
	// takes gRPC connections only.
	Cluster meta.ClusterID
	// Feature is the highest feature level that this build supports, Format its
	// storage format. Both are told to peers, for their Admit to judge.
	Feature, Format uint32

	// Listener takes all connections of peers. Stop closes it.
	Listener net.Listener
	// Dial connects to a peer's port; nil: over the network as it is.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS is used in both directions, nil for none. With ClientAuth set it is
	// mutual. Without a ServerName the address that was dialled is verified.
	TLS *tls.Config

	// Resolve says on which node a replica lives. It must be quick. For replicas
	// that it does not know, the transport remembers where their messages came
	// from.
	Resolve func(storage.GroupID, storage.ReplicaID) (identity.NodeID, bool)
	// Address returns where a node listens, host:port. It is asked before each
	// attempt to connect and may block for a while.
	Address func(identity.NodeID) (string, bool)
	// Admit decides about a peer whose hello is otherwise in order, on both ends
	// of a connection; nil admits all. Its error is told to the peer; one that
	// wraps ErrRemoved, ErrCopied or ErrIncompatible keeps that meaning there.
	Admit func(Hello) error
	// Receive takes messages of one group, which belong to it from then on. It
	// must not block.
	Receive func(storage.GroupID, []*pb.Message)
	// Together, if set, is called before a frame's messages are given to Receive,
	// and what it returns after it.
	Together func() (end func())
	// ReceiveSnapshot takes a snapshot. m is the MsgSnap as it was sent; body ends
	// with io.EOF only if all of it came, undamaged. The sender is told the result;
	// a nil error counts only once body was read to its end.
	ReceiveSnapshot func(from identity.NodeID, g storage.GroupID, m *pb.Message, body io.Reader) error
	// Unreachable, if set, is told of append messages that were dropped, for
	// raft's ReportUnreachable. It must not block, and is called from Send too.
	Unreachable func(storage.GroupID, storage.ReplicaID)
	// Gone, if set, is told of a node that was connected and whose port then
	// refuses connections: its process has ended. It must not block.
	Gone func(identity.NodeID)
	// Headroom is how many bytes this node may still write until its disk reserve
	// begins, negative under it: peers are told. It must be quick; nil says that
	// there is no end.
	Headroom func() int64
	// Wall is this node's clock, Unix nanoseconds; nil is the system's.
	Wall func() int64

	Logger     *slog.Logger
	Registerer prometheus.Registerer

	// QueuedMessages and QueuedBytes bound the append messages that wait for one
	// peer, ControlMessages and ControlBytes all others.
	QueuedMessages, QueuedBytes   int
	ControlMessages, ControlBytes int
	// FrameBytes ends a frame: no more messages are added to one of that size.
	FrameBytes int
	// MessageBytes is the largest message, and the largest frame that is
	// accepted is one of FrameBytes with one such message more.
	MessageBytes int

	// Keepalive is the time between two pings, up to a quarter more where no frame
	// takes them along; a connection on which nothing
	// came for Timeout is closed, and one on which a frame cannot be written for
	// WriteTimeout.
	Keepalive, Timeout, WriteTimeout time.Duration
	// DialTimeout bounds an attempt to connect. Attempts are BackoffMin apart at
	// first, doubling up to BackoffMax, each with jitter.
	DialTimeout, BackoffMin, BackoffMax time.Duration

	// HelloTimeout is how long a new connection may take to say who it is, and
	// PendingConns how many may be about to: the oldest has to leave.
	HelloTimeout time.Duration
	PendingConns int
	// GRPCBacklog bounds the gRPC connections that wait for GRPCListener's Accept.
	GRPCBacklog int
	// MaxPeers bounds the nodes that are known at a time.
	MaxPeers int

	// SnapshotBytesPerSecond limits all snapshots that this node sends together;
	// 0 is no limit. QueuedSnapshots bounds those that wait for one peer.
	SnapshotBytesPerSecond int64
	QueuedSnapshots        int
	// SnapshotStall is how long a receiver may take no bytes of a snapshot, while
	// it is alive otherwise.
	SnapshotStall time.Duration
}

// DefaultConfig returns the limits of a node in a local network; the rest is
// for the caller to fill in.
func DefaultConfig() Config {
	return Config{
		QueuedMessages:  8192,
		QueuedBytes:     64 << 20,
		ControlMessages: 8192,
		ControlBytes:    4 << 20,
		FrameBytes:      1 << 20,
		MessageBytes:    16 << 20,

		Keepalive:    400 * time.Millisecond,
		Timeout:      2 * time.Second,
		WriteTimeout: 5 * time.Second,
		DialTimeout:  time.Second,
		BackoffMin:   25 * time.Millisecond,
		BackoffMax:   500 * time.Millisecond,

		HelloTimeout: 5 * time.Second,
		PendingConns: 128,
		GRPCBacklog:  64,
		MaxPeers:     1024,

		SnapshotBytesPerSecond: 64 << 20,
		QueuedSnapshots:        64,
		SnapshotStall:          time.Minute,
	}
}

// Validate reports all that is wrong with c.
func (c *Config) Validate() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	need(!c.Self.IsZero(), "node id is missing")
	need(c.Listener != nil, "listener is missing")
	need(c.Resolve != nil && c.Address != nil, "resolver of replicas or of addresses is missing")
	need(c.Receive != nil && c.ReceiveSnapshot != nil, "receiver of messages or of snapshots is missing")
	need(c.Logger != nil, "logger is missing")
	need(c.Registerer != nil, "registerer is missing")
	need(len(c.Name) <= maxName, "name is too long")
	need(c.QueuedMessages > 0 && c.QueuedBytes > 0 && c.ControlMessages > 0 && c.ControlBytes > 0, "queue limits must be positive")
	need(c.FrameBytes > 0 && c.MessageBytes > 0, "frame and message bytes must be positive")
	need(c.FrameBytes+c.MessageBytes <= maxBody, fmt.Sprintf("frame and message bytes must be at most %d together", maxBody))
	need(c.Keepalive > 0 && c.Timeout > c.Keepalive, "timeout must be more than keepalive, and that positive")
	need(c.WriteTimeout > 0 && c.DialTimeout > 0 && c.HelloTimeout > 0, "timeouts must be positive")
	need(c.BackoffMin > 0 && c.BackoffMax >= c.BackoffMin, "greatest back-off must be at least the least, and that positive")
	need(c.PendingConns > 0 && c.GRPCBacklog > 0 && c.MaxPeers > 0, "connection limits must be positive")
	need(c.SnapshotBytesPerSecond >= 0 && c.QueuedSnapshots > 0 && c.SnapshotStall > 0, "snapshot limits must be positive")
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("transport configuration: %w", err)
	}
	return nil
}
