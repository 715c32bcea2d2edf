package client

import (
	"context"
	"errors"
	"time"
)

// Delivery is one packet under a lease of its repository, as a Handler gets it.
// It may be kept after the handler returned; Content and the other deliveries of
// its batch then share memory, so that keeping one keeps all.
type Delivery struct {
	RepoID   string
	PacketID string
	// Sequence is the packet's number in its repository.
	Sequence uint64
	Priority Priority
	// Attempt counts from 1.
	Attempt uint32
	// LeaseToken fences: within a repository and group it grows with each grant.
	LeaseToken      uint64
	Content         []byte
	ContentEncoding ContentEncoding
	Metadata        map[string]string
	Kind            string
	Traceparent     string
	// CreatedAt is the sender's clock, AcceptedAt the relay's log time.
	CreatedAt  time.Time
	AcceptedAt time.Time
	// ExpiresAt is when its own time to live ends, in log time; zero: it has none.
	ExpiresAt time.Time
	// LeaseExpiresAt is the relay's clock at the grant; renewals are not shown
	// here. The handler's context is what to go by.
	LeaseExpiresAt time.Time
	// Redelivered: the same grant, handed to the same worker name once more
	// after a lost connection.
	Redelivered bool
	// RedriveOf is the dead letter that it was before it was redriven; 0: none.
	RedriveOf uint64

	result []byte
	crc    uint32
	hasCRC bool
	lease  time.Duration
}

// SetResult gives a result, at most 1 MiB, that is kept with the packet when the
// handler returns nil. The slice must not be changed afterwards. It is not safe
// for use from several goroutines.
func (d *Delivery) SetResult(result []byte) { d.result = result }

// Result returns what SetResult was last given, for handlers that call handlers.
func (d *Delivery) Result() []byte { return d.result }

// Handler works one packet off. nil settles it as done, Dead(err) as dead;
// anything else, and a panic, has it tried again after the group's back-off.
// The context ends when the lease can no longer be held (cause ErrLeaseLost) and
// when a drain times out (ErrDrainTimeout); it does not end with Work's own
// context, so that what has begun can be finished.
type Handler func(ctx context.Context, d *Delivery) error

type deadError struct{ err error }

func (e *deadError) Error() string { return e.err.Error() }
func (e *deadError) Unwrap() error { return e.err }

// Dead marks an error as final: a handler that returns it has its packet moved
// to the dead letters at once, whatever attempts are left. Dead(nil) is an error too.
func Dead(err error) error {
	if err == nil {
		err = errors.New("rejected by the worker")
	}
	return &deadError{err: err}
}

// IsDead says whether err is, or wraps, what Dead returns.
func IsDead(err error) bool {
	var d *deadError
	return errors.As(err, &d)
}

type retryError struct {
	err   error
	after time.Duration
}

func (e *retryError) Error() string { return e.err.Error() }
func (e *retryError) Unwrap() error { return e.err }

// RetryAfter asks that a packet whose handler returns the error is not tried again
// before the delay is over: the group's back-off, where that is longer, still
// counts. The delay is cut to 24 h; one that is not positive asks for nothing. It has no
// effect on an error that is Dead.
func RetryAfter(err error, delay time.Duration) error {
	if err == nil {
		err = errors.New("to be tried again")
	}
	return &retryError{err: err, after: delay}
}

// retryAfter is the delay that err asks for: the outermost one, as it is sent.
func retryAfter(err error) time.Duration {
	var r *retryError
	if !errors.As(err, &r) {
		return 0
	}
	return min(max(r.after, 0), maxRetryAfter)
}
