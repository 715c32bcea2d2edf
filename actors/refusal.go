package actors

import (
	"errors"
	"strconv"
	"time"

	"github.com/waystation/waystation/actors/intake"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

// The codes of a Refusal: those of Error in the public API.
const (
	CodeInvalidArgument   = "INVALID_ARGUMENT"
	CodeNotFound          = "NOT_FOUND"
	CodeResourceExhausted = "RESOURCE_EXHAUSTED"
	CodeUnavailable       = "UNAVAILABLE"
	CodeUnknown           = "UNKNOWN"
	CodeGap               = "GAP"
	CodeFenced            = "FENCED"
	CodeUnknownProducer   = "UNKNOWN_PRODUCER"
	CodeStaleLease        = "STALE_LEASE"
	CodeInternal          = "INTERNAL"
)

// The reasons by which refusals are counted.
const (
	reasonInvalid   = "invalid"
	reasonMailbox   = "mailbox"
	reasonBudget    = "budget"
	reasonInFlight  = "in_flight"
	reasonBacklog   = "backlog"
	reasonGap       = "gap"
	reasonFenced    = "fenced"
	reasonProducer  = "unknown_producer"
	reasonTooOld    = "too_old"
	reasonUnknown   = "unknown"
	reasonNotLeader = "not_leader"
	reasonActors    = "actors"
	reasonParked    = "parked"
	reasonPanic     = "panic"
	reasonStopping  = "stopping"
	reasonInternal  = "internal"
	reasonDisk      = "disk"
	reasonHold      = "snapshot"
)

// Refusal is why a packet, a settlement or a call was not accepted. Refusals are
// shared: never change one.
type Refusal struct {
	// Code is one of the Code constants.
	Code string
	// Field names the request's field, when one is at fault.
	Field string
	// Message says what happened and what to do.
	Message string
	// RetryAfter is when the same request may succeed; 0: not by waiting.
	RetryAfter time.Duration
	// Expected is the position that a GAP asks for.
	Expected uint64
	// Leader is the public address of the node that leads the packet's partition,
	// where who refuses knows it and is another one; "" otherwise.
	Leader string

	reason string // the metric's label
}

// Error is the message, behind the field if there is one.
func (r *Refusal) Error() string {
	if r.Field != "" {
		return r.Field + ": " + r.Message
	}
	return r.Message
}

// Retriable says whether the same request may succeed later.
func (r *Refusal) Retriable() bool { return r.RetryAfter > 0 }

// after returns r with another delay.
func (r *Refusal) after(d time.Duration) *Refusal {
	c := *r
	c.RetryAfter = d
	return &c
}

// retrySoon is the delay of a refusal that has no queue to compute one from: an
// election, or an actor that comes back.
const retrySoon = 100 * time.Millisecond

// retryMoved is that of a partition whose leadership is being handed over, as a
// rule: that takes milliseconds. Should it be an election, clients back off.
const retryMoved = 20 * time.Millisecond

var (
	refusedNotLeader = &Refusal{
		Code: CodeUnavailable, RetryAfter: retryMoved, reason: reasonNotLeader,
		Message: "the partition has no leader on this node at the moment; send again",
	}
	refusedStopping = &Refusal{
		Code: CodeUnavailable, RetryAfter: retrySoon, reason: reasonStopping,
		Message: "the node is stopping; send again",
	}
	refusedUnknown = &Refusal{
		Code: CodeUnknown, RetryAfter: retrySoon, reason: reasonUnknown,
		Message: "the outcome is unknown; send again under the same id or position",
	}
	refusedPanic = &Refusal{
		Code: CodeUnavailable, RetryAfter: retrySoon, reason: reasonPanic,
		Message: "the repository's actor failed and restarts; send again",
	}
	refusedParked = &Refusal{
		Code: CodeUnavailable, RetryAfter: 30 * time.Second, reason: reasonParked,
		Message: "the repository is parked, because its actor kept failing; its packets are safe, see the node's log",
	}
	refusedActors = &Refusal{
		Code: CodeResourceExhausted, RetryAfter: time.Second, reason: reasonActors,
		Message: "too many repositories are active at once; send again later",
	}
	refusedMailbox = &Refusal{
		Code: CodeResourceExhausted, RetryAfter: retrySoon, reason: reasonMailbox,
		Message: "the repository's mailbox is full; send again later",
	}
	refusedBudget = &Refusal{
		Code: CodeResourceExhausted, RetryAfter: retrySoon, reason: reasonBudget,
		Message: "the node's intake budget has no room for more of this repository; send again later",
	}
	refusedInFlight = &Refusal{
		Code: CodeResourceExhausted, RetryAfter: retrySoon, reason: reasonInFlight,
		Message: "the producer has too many packets of this repository in flight; wait for receipts",
	}
	refusedBacklog = &Refusal{
		Code: CodeResourceExhausted, RetryAfter: time.Second, reason: reasonBacklog,
		Message: "the repository's backlog is full; send again when workers have caught up",
	}
	refusedFenced = &Refusal{
		Code: CodeFenced, Field: "position.epoch", reason: reasonFenced,
		Message: "a newer epoch of this producer is known; only its newest owner may send",
	}
	refusedProducer = &Refusal{
		Code: CodeUnknownProducer, Field: "position.producer", reason: reasonProducer,
		Message: "nothing is known of this producer and its sequence is not 1; open its next epoch and begin at 1",
	}
	refusedTooOld = &Refusal{
		Code: CodeInvalidArgument, Field: "position.sequence", reason: reasonTooOld,
		Message: "was accepted so long ago that its receipt is not kept any more",
	}
	refusedInternal = &Refusal{
		Code: CodeInternal, reason: reasonInternal,
		Message: "the partition's state could not be read; see the node's log",
	}
)

// RefusalDisk is for packets that a voter of their partition has no room for.
func RefusalDisk(after time.Duration) *Refusal {
	return &Refusal{
		Code: CodeResourceExhausted, RetryAfter: after, reason: reasonDisk,
		Message: "the disk of a node that keeps this partition is nearly full: packets are refused until workers or retention have made room, or --disk-reserve is lowered",
	}
}

// RefusalSnapshot is for packets that come faster than a replica which is being
// sent a snapshot could catch up with.
func RefusalSnapshot(after time.Duration) *Refusal {
	return &Refusal{
		Code: CodeResourceExhausted, RetryAfter: after, reason: reasonHold,
		Message: "publishing is slowed down while a replica of this partition catches up; send again",
	}
}

// refusedInvalid is for what can never be accepted.
func refusedInvalid(err error) *Refusal {
	r := &Refusal{Code: CodeInvalidArgument, Message: err.Error(), reason: reasonInvalid}
	var field *wire.FieldError
	if errors.As(err, &field) {
		r.Field, r.Message = field.Field, field.Message
	}
	return r
}

func refusedGap(expected uint64) *Refusal {
	return &Refusal{
		Code: CodeGap, Field: "position.sequence", Expected: expected, reason: reasonGap,
		Message: "leaves a gap: " + strconv.FormatUint(expected, 10) + " is expected; go back to it",
	}
}

// refusalOf maps what Apply decided of a packet. It is nil for OK and Duplicate.
func refusalOf(code repository.Code, expected uint64) *Refusal {
	switch code {
	case repository.OK, repository.Duplicate:
		return nil
	case repository.Gap:
		return refusedGap(expected)
	case repository.Fenced:
		return refusedFenced
	case repository.UnknownProducer:
		return refusedProducer
	case repository.BacklogFull:
		return refusedBacklog
	case repository.TooOld:
		return refusedTooOld
	case repository.Void:
		return refusedNotLeader
	}
	return refusedInternal
}

// outcomeRefusal maps the outcome of a packet that was proposed. It is nil if it was
// accepted.
func outcomeRefusal(o *intake.Outcome) *Refusal {
	switch o.Failure {
	case intake.NotProposed:
		return refusedNotLeader
	case intake.Unknown:
		return refusedUnknown
	}
	return refusalOf(o.Result.Code, o.Result.Expected)
}
