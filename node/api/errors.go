package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/waystation/waystation/actors"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// Codes that only the transports know, beside those of actors.Refusal.
const (
	codePermissionDenied = "PERMISSION_DENIED"
	codeUnimplemented    = "UNIMPLEMENTED"
	codeMethod           = "METHOD_NOT_ALLOWED"
)

// callError is what a call answers when it fails. This file alone maps it, and
// everything else, to the statuses of gRPC and HTTP.
type callError struct {
	Code, Field, Message string
	RetryAfter           time.Duration
	Expected             uint64
	Leader               string
	HTTP                 int // 0: that of Code
}

// Error is "field: message".
func (e *callError) Error() string {
	if e.Field != "" {
		return e.Field + ": " + e.Message
	}
	return e.Message
}

func invalid(field, message string) *callError {
	return &callError{Code: actors.CodeInvalidArgument, Field: field, Message: message}
}

// tooLarge is INVALID_ARGUMENT and not RESOURCE_EXHAUSTED: waiting does not make
// it smaller.
func tooLarge(field, message string) *callError {
	return &callError{Code: actors.CodeInvalidArgument, Field: field, Message: message, HTTP: http.StatusRequestEntityTooLarge}
}

func unavailable(message string, retryAfter time.Duration) *callError {
	return &callError{Code: actors.CodeUnavailable, Message: message, RetryAfter: retryAfter}
}

// errDraining is for going on elsewhere at once: what this node led is led there
// by then. Who finds no other node backs off by himself.
var errDraining = unavailable("the node is draining; go on at another one, or here once it is back", 10*time.Millisecond)

var errStarting = unavailable("the node is starting; send again", 200*time.Millisecond)

// retryUnknown is the delay that an unknown outcome asks for.
const retryUnknown = 100 * time.Millisecond

// errorOf makes a callError of whatever a call ended with.
func errorOf(err error) *callError {
	var (
		call    *callError
		refusal *actors.Refusal
		field   *wire.FieldError
	)
	switch {
	case errors.As(err, &call):
		return call
	case errors.As(err, &refusal):
		return refused(refusal)
	case errors.As(err, &field):
		return invalid(field.Field, field.Message)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &callError{
			Code: actors.CodeUnknown, RetryAfter: retryUnknown,
			Message: "the call ended before its outcome was known; send again under the same id or position",
		}
	}
	return &callError{Code: actors.CodeInternal, Message: err.Error()}
}

func refused(r *actors.Refusal) *callError {
	return &callError{Code: r.Code, Field: r.Field, Message: r.Message, RetryAfter: r.RetryAfter, Expected: r.Expected, Leader: r.Leader}
}

// grpcCode maps a code; those that gRPC does not have are failed preconditions,
// and travel as they are in the details.
func (e *callError) grpcCode() codes.Code {
	switch e.Code {
	case actors.CodeInvalidArgument:
		return codes.InvalidArgument
	case actors.CodeNotFound:
		return codes.NotFound
	case actors.CodeResourceExhausted:
		return codes.ResourceExhausted
	case actors.CodeUnavailable:
		return codes.Unavailable
	case actors.CodeUnknown:
		return codes.Unknown
	case actors.CodeGap, actors.CodeFenced, actors.CodeUnknownProducer, actors.CodeStaleLease:
		return codes.FailedPrecondition
	case codePermissionDenied:
		return codes.PermissionDenied
	case codeUnimplemented:
		return codes.Unimplemented
	}
	return codes.Internal
}

// httpStatus maps a code to an HTTP status.
func (e *callError) httpStatus() int {
	if e.HTTP != 0 {
		return e.HTTP
	}
	switch e.Code {
	case actors.CodeInvalidArgument:
		return http.StatusBadRequest
	case actors.CodeNotFound:
		return http.StatusNotFound
	case actors.CodeResourceExhausted:
		return http.StatusTooManyRequests
	case actors.CodeUnavailable, actors.CodeUnknown:
		return http.StatusServiceUnavailable
	case actors.CodeGap, actors.CodeFenced, actors.CodeUnknownProducer, actors.CodeStaleLease:
		return http.StatusConflict
	case codePermissionDenied:
		return http.StatusForbidden
	case codeUnimplemented:
		return http.StatusNotImplemented
	case codeMethod:
		return http.StatusMethodNotAllowed
	}
	return http.StatusInternalServerError
}

// errorFrom is proto's inverse.
func errorFrom(e *waystationv1.Error) *callError {
	return &callError{
		Code: e.GetCode(), Field: e.GetField(), Message: e.GetMessage(),
		RetryAfter: time.Duration(e.GetRetryAfterMs()) * time.Millisecond, Expected: e.GetExpectedSequence(), Leader: e.GetLeader(),
	}
}

// proto is the error as an element of a result.
func (e *callError) proto() *waystationv1.Error {
	return &waystationv1.Error{
		Code: e.Code, Field: e.Field, Message: e.Message,
		RetryAfterMs: e.RetryAfter.Milliseconds(), ExpectedSequence: e.Expected, Leader: e.Leader,
	}
}

// grpcError is the error as a call's status, with its details.
func (e *callError) grpcError() error {
	st := status.New(e.grpcCode(), e.Error())
	details := []protoadapt.MessageV1{e.proto()}
	if e.Field != "" {
		details = append(details, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: e.Field, Description: e.Message},
		}})
	}
	if e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	if with, err := st.WithDetails(details...); err == nil {
		st = with
	}
	return st.Err()
}

// retryAfter is the Retry-After header: whole seconds, rounded up.
func (e *callError) retryAfter() string {
	return strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10)
}
