package api

import (
	"context"
	"time"

	"github.com/waystation/waystation/actors"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// Relay takes packets in. *actors.Relay is one.
type Relay interface {
	// Offer takes f over and answers each packet once through sink. It does not
	// wait for the answers.
	Offer(f *actors.Frame, sink actors.Sink)
	// Parked says whether the repository's actor kept failing and is stopped.
	Parked(repo string) bool
}

// Routed is a Relay that forwards, and tells senders who leads what, so that they
// need not have it forward.
type Routed interface {
	Relay
	// Routes is a PublishStreamResponse with routes and nothing else, which never
	// changes, and a channel that is closed once there is another one. Both are nil
	// as long as nothing is known.
	Routes() (message []byte, changed <-chan struct{})
}

// Cluster knows nodes, partitions and producers.
type Cluster interface {
	// OpenProducer gives a producer's name its next epoch, once all partitions
	// refuse the lower ones.
	OpenProducer(ctx context.Context, producer string) (epoch uint64, err error)
	// Describe says what nodes and partitions there are. It asks the nodes, each for
	// a moment only.
	Describe(ctx context.Context) *waystationv1.DescribeClusterResponse
	// Drain has a node, given by name or id, give away what it has, or with undo
	// makes it an ordinary one again.
	Drain(ctx context.Context, node string, undo bool) error
	// Remove ends a node's membership for good.
	Remove(ctx context.Context, node string) error
	// DeleteGroup deletes a consumer group, and returns once no partition serves it.
	DeleteGroup(ctx context.Context, name string) error
	// CreateGroup makes a consumer group, and returns once every partition knows it.
	CreateGroup(ctx context.Context, name string, s *waystationv1.GroupSettings) (*waystationv1.Group, error)
	// UpdateGroup changes the settings that s gives, and returns once every
	// partition goes by them.
	UpdateGroup(ctx context.Context, name string, s *waystationv1.GroupSettings) (*waystationv1.Group, error)
	// Groups are the consumer groups by name.
	Groups() ([]*waystationv1.Group, error)
	// Verify compares all replicas of everything.
	Verify(ctx context.Context, limit time.Duration) (*waystationv1.VerifyClusterResponse, error)
	// Export sends one group's state, as it is where it is led. send blocks as the
	// receiver does.
	Export(ctx context.Context, group uint32, send func(*waystationv1.ExportGroupResponse) error) error
}

// Calls are the calls of the API, behind both transports.
type Calls struct {
	relay    Relay
	delivery Delivery
	cluster  Cluster
	health   *Health
	limits   wire.Limits
}

// NewCalls returns the calls over what a node has.
func NewCalls(relay Relay, delivery Delivery, cluster Cluster, health *Health, limits wire.Limits) *Calls {
	return &Calls{relay: relay, delivery: delivery, cluster: cluster, health: health, limits: limits}
}

// open refuses new work while the node goes away.
func (c *Calls) open() error {
	select {
	case <-c.health.Draining():
		return errDraining
	default:
		return nil
	}
}
