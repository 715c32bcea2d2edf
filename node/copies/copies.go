package copies

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/grpc"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
	"github.com/waystation/waystation/node/peers"
	"github.com/waystation/waystation/storage"
)

// Nodes knows where the others are. *member.Member is one.
type Nodes interface {
	PeerAddress(n identity.NodeID) (string, bool)
	Pool() *peers.Pool
	Reports(ctx context.Context) map[identity.NodeID]*peerv1.ReportResponse
}

// Config is what Copies are made from.
type Config struct {
	Self       identity.NodeID
	Nodes      Nodes
	Engine     *cluster.Engine
	Meta       *meta.Store
	Calls      *meta.Calls
	Partitions []*actors.Partition
	// Damaged is told of a replica that cannot be read, and says whether it is
	// given up.
	Damaged func(g storage.GroupID, err error) bool
	// BytesPerSecond bounds what is read of this node's replicas, all in all.
	BytesPerSecond int
	Logger         *slog.Logger
}

// DefaultBytesPerSecond leaves most of a disk to the node's own work.
const DefaultBytesPerSecond = 64 << 20

// Copies answers for one node. All methods may be called at the same time.
type Copies struct {
	cfg  Config
	turn chan struct{} // one replica is read at a time
}

// New returns the Copies of a node.
func New(cfg Config) *Copies {
	return &Copies{cfg: cfg, turn: make(chan struct{}, 1)}
}

// Register answers other nodes.
func (c *Copies) Register(s grpc.ServiceRegistrar) {
	peerv1.RegisterCopiesServer(s, &service{c: c})
}

// begin waits for the turn to read a replica.
func (c *Copies) begin(ctx context.Context) (end func(), err error) {
	select {
	case c.turn <- struct{}{}:
		return func() { <-c.turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("another replica is being read: %w", ctx.Err())
	}
}

func (c *Copies) partition(g storage.GroupID) *actors.Partition {
	if g == meta.MetaGroup || int(g) > len(c.cfg.Partitions) {
		return nil
	}
	return c.cfg.Partitions[g-1]
}

// damaged says whether an error means that this replica has lost something.
func damaged(err error) bool {
	var record *repository.CorruptError
	return errors.Is(err, storage.ErrCorrupt) || errors.Is(err, cluster.ErrQuarantined) ||
		errors.Is(err, actors.ErrDamaged) || errors.Is(err, actors.ErrGivenUp) || errors.As(err, &record)
}

var errNoGroup = errors.New("there is no such group")

// peer is another node's Copies.
func (c *Copies) peer(n identity.NodeID) (peerv1.CopiesClient, error) {
	addr, ok := c.cfg.Nodes.PeerAddress(n)
	if !ok {
		return nil, fmt.Errorf("nobody knows where node %s is", n)
	}
	conn, err := c.cfg.Nodes.Pool().Conn(addr)
	if err != nil {
		return nil, err
	}
	return peerv1.NewCopiesClient(conn), nil
}
