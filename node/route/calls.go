package route

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// routedDelivery implements api.Delivery.
type routedDelivery struct{ r *Router }

// place is where a repository's, or a partition's, leader is to be asked: addr is
// empty for this node.
type place struct {
	node, addr string
}

// placeOf is where a partition is led.
func (r *Router) placeOf(p repository.PartitionID) (place, error) {
	t := r.table.Load()
	to := &t.targets[p]
	switch {
	case !to.ok:
		return place{}, refusedLeaderless
	case to.local:
		return place{}, nil
	}
	return place{to.node, to.link.node.PeerAddr}, nil
}

// call makes one forwarded call. req and answer are messages, or *codec.Raw.
func (r *Router) call(ctx context.Context, to place, p repository.PartitionID, method string, req proto.Message, answer any) error {
	conn, err := r.conns.Conn(to.addr)
	if err != nil {
		return refusedUnsent
	}
	limited, cancel := context.WithTimeout(ctx, r.cfg.CallTimeout)
	defer cancel()
	if err := conn.Invoke(limited, method, req, answer, r.callOption, grpc.WaitForReady(false)); err != nil {
		err = callError(ctx, err)
		if refusal := asUnavailable(err); refusal != nil {
			r.cluster.Suspect(p, to.node)
		}
		return err
	}
	return nil
}

// asUnavailable is err if it says that the node may not be the one to ask.
func asUnavailable(err error) *actors.Refusal {
	if r, ok := err.(*actors.Refusal); ok && r.Code == actors.CodeUnavailable { //nolint:errorlint // what callError returns
		return r
	}
	return nil
}

// part is what of a list goes to one place.
type part[T any] struct {
	to        place
	partition repository.PartitionID // one of those concerned
	indexes   []int
	list      []T
}

// parts divides a list by leaders, in order. What has none is in lost.
func parts[T any](r *Router, list []T, repo func(*T) string) (out []*part[T], lost []int) {
	for i := range list {
		p := r.partitionOf([]byte(repo(&list[i])))
		to, err := r.placeOf(p)
		if err != nil {
			lost = append(lost, i)
			continue
		}
		var found *part[T]
		for _, x := range out {
			if x.to == to {
				found = x
			}
		}
		if found == nil {
			found = &part[T]{to: to, partition: p}
			out = append(out, found)
		}
		found.indexes = append(found.indexes, i)
		found.list = append(found.list, list[i])
	}
	return out, lost
}

// Settle implements api.Delivery. What a leader does not answer is refused as
// UNAVAILABLE: the same settlement twice is fine.
func (x routedDelivery) Settle(ctx context.Context, group string, list []actors.Settlement) ([]actors.SettlementOutcome, error) {
	r := x.r
	if r.table.Load().here || len(list) == 0 {
		return r.delivery.Settle(ctx, group, list)
	}
	out := make([]actors.SettlementOutcome, len(list))
	for i := range list {
		out[i] = actors.SettlementOutcome{Index: i, Repo: list[i].Repo, Seq: list[i].Seq, Refusal: refusedLeaderless}
	}
	split, _ := parts(r, list, func(s *actors.Settlement) string { return s.Repo })
	err := each(split, func(p *part[actors.Settlement]) error {
		got, err := r.settleAt(ctx, group, p)
		if err != nil && !mayPass(err) {
			return err
		}
		for i, at := range p.indexes {
			if err != nil {
				out[at].Refusal = refusedRepeat
			} else if i < len(got) {
				out[at].Refusal = got[i].Refusal
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, ctx.Err()
}

func (r *Router) settleAt(ctx context.Context, group string, p *part[actors.Settlement]) ([]actors.SettlementOutcome, error) {
	if p.to.addr == "" {
		return r.delivery.Settle(ctx, group, p.list)
	}
	q := &waystationv1.SettleRequest{Group: group}
	for i := range p.list {
		q.Settlements = append(q.Settlements, settlementProto(&p.list[i]))
	}
	var a waystationv1.SettleResponse
	if err := r.call(ctx, p.to, p.partition, waystationv1.Waystation_Settle_FullMethodName, q, &a); err != nil {
		return nil, err
	}
	out := make([]actors.SettlementOutcome, len(a.GetResults()))
	for i, s := range a.GetResults() {
		out[i].Refusal = refusalOf(s.GetError())
	}
	return out, nil
}

func settlementProto(s *actors.Settlement) *waystationv1.Settlement {
	return &waystationv1.Settlement{
		RepoId: s.Repo, Sequence: uint64(s.Seq), LeaseToken: uint64(s.Token), Outcome: waystationv1.Outcome(s.Outcome), Error: s.Error, Result: s.Result,
		RetryAfterMs: s.RetryAfterMs,
	}
}

// Renew implements api.Delivery.
func (x routedDelivery) Renew(ctx context.Context, group string, list []actors.LeaseRef) ([]actors.RenewOutcome, error) {
	r := x.r
	if r.table.Load().here || len(list) == 0 {
		return r.delivery.Renew(ctx, group, list)
	}
	out := make([]actors.RenewOutcome, len(list))
	for i := range list {
		out[i] = actors.RenewOutcome{Index: i, Repo: list[i].Repo, Token: list[i].Token, Refusal: refusedLeaderless}
	}
	split, _ := parts(r, list, func(l *actors.LeaseRef) string { return l.Repo })
	err := each(split, func(p *part[actors.LeaseRef]) error {
		got, err := r.renewAt(ctx, group, p)
		if err != nil && !mayPass(err) {
			return err
		}
		for i, at := range p.indexes {
			if err != nil {
				out[at].Refusal = refusedRepeat
			} else if i < len(got) {
				out[at].Refusal, out[at].ExpiresMs = got[i].Refusal, got[i].ExpiresMs
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, ctx.Err()
}

func (r *Router) renewAt(ctx context.Context, group string, p *part[actors.LeaseRef]) ([]actors.RenewOutcome, error) {
	if p.to.addr == "" {
		return r.delivery.Renew(ctx, group, p.list)
	}
	q := &waystationv1.RenewRequest{Group: group}
	for i := range p.list {
		q.Leases = append(q.Leases, &waystationv1.LeaseRef{RepoId: p.list[i].Repo, LeaseToken: uint64(p.list[i].Token)})
	}
	var a waystationv1.RenewResponse
	if err := r.call(ctx, p.to, p.partition, waystationv1.Waystation_Renew_FullMethodName, q, &a); err != nil {
		return nil, err
	}
	out := make([]actors.RenewOutcome, len(a.GetResults()))
	for i, l := range a.GetResults() {
		out[i] = actors.RenewOutcome{Refusal: refusalOf(l.GetError())}
		if t := l.GetLeaseExpiresAt(); t != nil {
			out[i].ExpiresMs = t.AsTime().UnixMilli()
		}
	}
	return out, nil
}

// mayPass says whether the same call may succeed later: then only the items of the
// node that failed are refused, and not the call.
func mayPass(err error) bool {
	r, ok := err.(*actors.Refusal) //nolint:errorlint // what callError returns
	return ok && r.Retriable()
}

// each runs f for all parts at once and waits; it returns the first error.
func each[T any](list []*part[T], f func(*part[T]) error) error {
	if len(list) == 1 {
		return f(list[0])
	}
	errs := make(chan error, len(list))
	for _, p := range list {
		go func() { errs <- f(p) }()
	}
	var first error
	for range list {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// raw asks for a message in its bytes.
func (r *Router) raw(ctx context.Context, to place, p repository.PartitionID, method string, req proto.Message) ([]byte, error) {
	var raw codec.Raw
	if err := r.call(ctx, to, p, method, req, &raw); err != nil {
		return nil, err
	}
	return raw.Bytes, nil
}
