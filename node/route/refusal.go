package route

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waystation/waystation/actors"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// The router's own refusals. All of them may be tried again.
var (
	refusedLeaderless = &actors.Refusal{
		Code: actors.CodeUnavailable, RetryAfter: 20 * time.Millisecond,
		Message: "the partition has no leader at the moment; send again",
	}
	refusedMoving = &actors.Refusal{
		Code: actors.CodeUnavailable, RetryAfter: 20 * time.Millisecond,
		Message: "the partition has a new leader, and the former one has not answered all yet; send again",
	}
	refusedCredit = &actors.Refusal{
		Code: actors.CodeResourceExhausted, RetryAfter: 50 * time.Millisecond,
		Message: "too much is on its way to the partition's leader; send again later",
	}
	refusedUnsent = &actors.Refusal{
		Code: actors.CodeUnavailable, RetryAfter: 100 * time.Millisecond,
		Message: "the partition's leader cannot be reached; send again",
	}
	refusedUnknown = &actors.Refusal{
		Code: actors.CodeUnknown, RetryAfter: 100 * time.Millisecond,
		Message: "the partition's leader did not answer: the outcome is unknown; send again under the same id or position",
	}
	refusedRepeat = &actors.Refusal{
		Code: actors.CodeUnavailable, RetryAfter: 100 * time.Millisecond,
		Message: "the partition's leader did not answer; send again",
	}
)

// naming returns r with the leader's public address.
func naming(r *actors.Refusal, leader string) *actors.Refusal {
	c := *r
	c.Leader = leader
	return &c
}

// refusalOf is the refusal that e carries; nil for none.
func refusalOf(e *waystationv1.Error) *actors.Refusal {
	if e == nil {
		return nil
	}
	return &actors.Refusal{
		Code: e.GetCode(), Field: e.GetField(), Message: e.GetMessage(),
		RetryAfter: time.Duration(e.GetRetryAfterMs()) * time.Millisecond, Expected: e.GetExpectedSequence(), Leader: e.GetLeader(),
	}
}

// callError is what a forwarded call failed with: the refusal that the other node
// gave, the caller's own end, or refusedRepeat.
func callError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var r *actors.Refusal
	if errors.As(err, &r) {
		return r
	}
	st := status.Convert(err)
	for _, d := range st.Details() {
		if e, ok := d.(*waystationv1.Error); ok {
			return refusalOf(e)
		}
	}
	if st.Code() == codes.InvalidArgument {
		return &actors.Refusal{Code: actors.CodeInvalidArgument, Message: st.Message()}
	}
	return refusedRepeat
}
