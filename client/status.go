package client

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// fromStatus makes an *Error of a gRPC status. What the caller's own context
// ended stays the context's error. This is the only place that maps them.
func fromStatus(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var own *Error
	if errors.As(err, &own) || errors.Is(err, ErrClosed) {
		return err
	}
	st := status.Convert(err)
	e := &Error{Code: codeOf(st.Code()), Message: st.Message()}
	for _, d := range st.Details() {
		e.detail(d)
	}
	return e
}

func (e *Error) detail(d any) {
	switch d := d.(type) {
	case *errdetails.RetryInfo:
		e.RetryAfter = d.GetRetryDelay().AsDuration()
	case *errdetails.BadRequest:
		if v := d.GetFieldViolations(); len(v) > 0 {
			e.Field = v[0].GetField()
		}
	case *errdetails.ErrorInfo:
		// The relay's own codes, where gRPC has none: STALE_LEASE, FENCED.
		if d.GetReason() != "" {
			e.Code = d.GetReason()
		}
	case *waystationv1.Error:
		*e = *fromProto(d)
	}
}

func codeOf(c codes.Code) string {
	switch c {
	case codes.InvalidArgument, codes.OutOfRange:
		return CodeInvalidArgument
	case codes.NotFound:
		return CodeNotFound
	case codes.ResourceExhausted:
		return CodeResourceExhausted
	case codes.Unavailable, codes.Canceled:
		return CodeUnavailable
	case codes.Unknown, codes.DeadlineExceeded, codes.Aborted:
		return CodeUnknown
	case codes.FailedPrecondition:
		return CodeStaleLease
	case codes.Unauthenticated:
		return CodeUnauthenticated
	case codes.PermissionDenied:
		return CodePermissionDenied
	case codes.Unimplemented:
		return CodeUnimplemented
	}
	return CodeInternal
}

// fatal says whether a stream that ended with err is not worth opening again.
func fatal(err error) bool {
	switch ErrorCode(err) {
	case CodeUnauthenticated, CodePermissionDenied, CodeUnimplemented:
		return true
	}
	return false
}

func fromProto(e *waystationv1.Error) *Error {
	if e == nil {
		return nil
	}
	return &Error{
		Code: e.GetCode(), Field: e.GetField(), Message: e.GetMessage(),
		RetryAfter: millis(e.GetRetryAfterMs()), Expected: e.GetExpectedSequence(), Leader: e.GetLeader(),
	}
}
