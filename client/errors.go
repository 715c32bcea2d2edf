package client

import (
	"errors"
	"fmt"
	"time"
)

// Codes of an Error.
const (
	// CodeInvalidArgument: the packet can never be accepted; Field says why.
	CodeInvalidArgument = "INVALID_ARGUMENT"
	// CodeNotFound: what was asked for does not exist, or no longer.
	CodeNotFound = "NOT_FOUND"
	// CodeResourceExhausted: refused for load; try again after RetryAfter.
	CodeResourceExhausted = "RESOURCE_EXHAUSTED"
	// CodeUnavailable: nothing was done; try again.
	CodeUnavailable = "UNAVAILABLE"
	// CodeUnknown: the outcome is not known. A resend under the same id or
	// position is safe.
	CodeUnknown = "UNKNOWN"
	// CodeGap: a position was skipped. The client handles it by itself.
	CodeGap = "GAP"
	// CodeFenced: another process opened the same producer name.
	CodeFenced = "FENCED"
	// CodeUnknownProducer: the relay no longer knows the producer. The client
	// handles it by itself.
	CodeUnknownProducer = "UNKNOWN_PRODUCER"
	// CodeStaleLease: a settlement or renewal came after its lease was lost.
	CodeStaleLease = "STALE_LEASE"
	// CodeUnauthenticated and CodePermissionDenied: credentials are missing or not enough.
	CodeUnauthenticated  = "UNAUTHENTICATED"
	CodePermissionDenied = "PERMISSION_DENIED"
	// CodeUnimplemented: the node is older than this call.
	CodeUnimplemented = "UNIMPLEMENTED"
	// CodeInternal: a defect of the relay.
	CodeInternal = "INTERNAL"
)

var (
	// ErrClosed is returned by every call on a closed client.
	ErrClosed = errors.New("client is closed")
	// ErrLeaseLost is the cause of a handler's context once its lease can no
	// longer be held: another worker may have the packet.
	ErrLeaseLost = errors.New("lease lost")
	// ErrDrainTimeout is the cause of a handler's context when Work was told to
	// end and the handler did not return in time.
	ErrDrainTimeout = errors.New("drain timed out")
	// ErrContentCorrupt is what a delivery is sent back with when its content
	// does not match its checksum; its handler was not called.
	ErrContentCorrupt = errors.New("content does not match its crc32c")
)

// Error is a refusal by the relay.
type Error struct {
	// Code is one of the Code constants.
	Code string
	// Field of the packet or request that is at fault, if any.
	Field string
	// Message says what is wrong and, where it can, what to do.
	Message string
	// RetryAfter is how long to wait before another try; 0: not said.
	RetryAfter time.Duration
	// Expected is the position's sequence that a GAP asks for.
	Expected uint64
	// Leader is the address of the node that would have been the one to ask, where
	// the one that refuses knows. The client goes there by itself.
	Leader string
}

// Error returns "CODE: field: message".
func (e *Error) Error() string {
	switch {
	case e.Field != "" && e.Message != "":
		return fmt.Sprintf("%s: %s: %s", e.Code, e.Field, e.Message)
	case e.Message != "":
		return e.Code + ": " + e.Message
	case e.Field != "":
		return e.Code + ": " + e.Field
	}
	return e.Code
}

// Retriable says whether the same request may succeed later.
func (e *Error) Retriable() bool {
	switch e.Code {
	case CodeResourceExhausted, CodeUnavailable, CodeUnknown, CodeGap, CodeUnknownProducer:
		return true
	}
	return false
}

// ErrorCode returns the code of the *Error in err's chain, or "".
func ErrorCode(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
