package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// Session is a worker's connection. *actors.Session is one.
type Session interface {
	Ready() <-chan struct{}
	Done() <-chan struct{}
	Err() error
	Take(limit int, dst []actors.Delivery) []actors.Delivery
	Held() int
	// Pending says whether more may come at once. It does not block.
	Pending() bool
	SetCredit(n uint32)
	Settle(list []actors.Settlement, done func([]actors.SettlementOutcome))
	Renew(list []actors.LeaseRef, done func([]actors.RenewOutcome))
	Drain()
	Release()
	Close()
}

// Delivery hands packets out. actors.DeliveryService is one, with its sessions
// behind an interface.
type Delivery interface {
	Open(ctx context.Context, cfg actors.SessionConfig) (Session, error)
	Pull(ctx context.Context, cfg actors.PullConfig) ([]actors.Delivery, error)
	Settle(ctx context.Context, group string, list []actors.Settlement) ([]actors.SettlementOutcome, error)
	Renew(ctx context.Context, group string, list []actors.LeaseRef) ([]actors.RenewOutcome, error)
	Reads
}

// mostListed bounds settlements, leases and the like in one unary request.
const mostListed = 10_000

// pull answers a PullResponse. A drain ends its waiting.
func (c *Calls) pull(ctx context.Context, q *waystationv1.PullRequest) (*codec.Raw, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	waiting, done := c.untilDrain(ctx)
	defer done()
	list, err := c.delivery.Pull(waiting, actors.PullConfig{
		Group: q.GetGroup(), Max: q.GetMax(), WaitMs: q.GetWaitMs(), LeaseMs: q.GetLeaseMs(), Worker: q.GetWorker(),
	})
	if err != nil {
		if ctx.Err() == nil && waiting.Err() != nil {
			return nil, errDraining
		}
		return nil, err
	}
	b := make([]byte, 0, deliveriesSize(list))
	for i := range list {
		v := deliveryView(&list[i])
		b = wire.AppendDelivery(b, &v)
	}
	return &codec.Raw{Bytes: b}, nil
}

func (c *Calls) settle(ctx context.Context, q *waystationv1.SettleRequest) (*waystationv1.SettleResponse, error) {
	if len(q.GetSettlements()) > mostListed {
		return nil, invalid("settlements", "are too many: at most 10,000 in one request")
	}
	outcomes, err := c.delivery.Settle(ctx, q.GetGroup(), settlements(q.GetSettlements()))
	if err != nil {
		return nil, err
	}
	out := &waystationv1.SettleResponse{Results: make([]*waystationv1.SettlementResult, len(outcomes))}
	for i := range outcomes {
		out.Results[i] = settlementResult(&outcomes[i])
	}
	return out, nil
}

func (c *Calls) renew(ctx context.Context, q *waystationv1.RenewRequest) (*waystationv1.RenewResponse, error) {
	if len(q.GetLeases()) > mostListed {
		return nil, invalid("leases", "are too many: at most 10,000 in one request")
	}
	outcomes, err := c.delivery.Renew(ctx, q.GetGroup(), leases(q.GetLeases()))
	if err != nil {
		return nil, err
	}
	out := &waystationv1.RenewResponse{Results: make([]*waystationv1.RenewResult, len(outcomes))}
	for i := range outcomes {
		out.Results[i] = renewResult(&outcomes[i])
	}
	return out, nil
}

func (c *Calls) openProducer(ctx context.Context, q *waystationv1.OpenProducerRequest) (*waystationv1.OpenProducerResponse, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	epoch, err := c.cluster.OpenProducer(ctx, q.GetProducer())
	if err != nil {
		return nil, err
	}
	return &waystationv1.OpenProducerResponse{Producer: q.GetProducer(), Epoch: epoch}, nil
}

// msTime is a time of milliseconds since the Unix epoch.
func msTime(ms int64) time.Time { return time.UnixMilli(ms) }

// msStamp is the same for messages; nil for 0, which is no time.
func msStamp(ms int64) *timestamppb.Timestamp {
	if ms == 0 {
		return nil
	}
	return timestamppb.New(msTime(ms))
}

// stampMs is the other way round: 0 for none.
func stampMs(t *timestamppb.Timestamp) int64 {
	if t == nil {
		return 0
	}
	return t.AsTime().UnixMilli()
}
