package route

import (
	"context"
	"time"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// pauseLost is how long a wait for a result pauses where its leader is lost.
const pauseLost = 20 * time.Millisecond

// Result implements api.Reads. A wait goes on at the partition's next leader when the one
// that was asked is lost; a leader is asked for a part of a forwarded call's time only,
// so that one which is gone without a word does not keep it.
func (x routedDelivery) Result(ctx context.Context, q actors.ResultQuery) (*actors.PacketResult, error) {
	r := x.r
	begun, wait := time.Now(), time.Duration(q.WaitMs)*time.Millisecond
	if r.table.Load().here || wait > time.Minute {
		return r.delivery.Result(ctx, q) // which says what is wrong with it
	}
	for {
		left := max(wait-time.Since(begun), 0)
		part := q
		part.WaitMs = uint32(min(left, r.cfg.CallTimeout/2).Milliseconds())
		got, err := r.resultAt(ctx, part)
		left = wait - time.Since(begun)
		switch {
		case err == nil && (got.State != actors.ResultPending || left <= 0):
			return got, nil
		case err == nil:
			q.Empty = true // it was seen waiting: when it is done next, that is the answer
			continue
		case !mayMove(err) || left <= 0:
			return nil, err
		}
		select {
		case <-time.After(min(max(retryAfter(err), pauseLost), left)):
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.stopping:
			return nil, err
		}
	}
}

// mayMove says whether another node, or the same one soon, may answer what failed.
func mayMove(err error) bool {
	r, ok := err.(*actors.Refusal) //nolint:errorlint // what resultAt returns
	return ok && (r.Code == actors.CodeUnavailable || r.Code == actors.CodeUnknown)
}

func retryAfter(err error) time.Duration {
	r, ok := err.(*actors.Refusal) //nolint:errorlint // what resultAt returns
	if !ok {
		return 0
	}
	return r.RetryAfter
}

func (r *Router) resultAt(ctx context.Context, q actors.ResultQuery) (*actors.PacketResult, error) {
	p := r.partitionOf([]byte(q.Repo))
	to, err := r.placeOf(p)
	if err != nil {
		return nil, err
	}
	if to.addr == "" {
		return r.delivery.Result(ctx, q)
	}
	var a waystationv1.GetResultResponse
	err = r.call(ctx, to, p, waystationv1.Waystation_GetResult_FullMethodName, &waystationv1.GetResultRequest{
		RepoId: q.Repo, Group: q.Group, Sequence: uint64(q.Seq), PacketId: q.ID, WaitMs: q.WaitMs, Empty: q.Empty,
	}, &a)
	if err != nil {
		return nil, err
	}
	x := a.GetResult()
	return &actors.PacketResult{
		Seq: repository.Seq(x.GetSequence()), State: actors.ResultState(x.GetState()), Kept: x != nil && x.Result != nil, Result: x.GetResult(),
		ExpiresMs: stampMs(x.GetExpiresAt()), Reason: x.GetReason(), Attempts: x.GetAttempts(), LastError: x.GetLastError(),
	}, nil
}
