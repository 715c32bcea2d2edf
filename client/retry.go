package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// RetryPolicy says how long to wait before another try. The n-th wait is drawn
// from Min·2ⁿ ± Jitter, at most Max; a delay that the server asks for is never
// undercut.
type RetryPolicy struct {
	// Min is the first wait (10 ms).
	Min time.Duration
	// Max is the longest wait (2 s), unless the server asks for more.
	Max time.Duration
	// Jitter is the share by which waits differ at random, 0 to 1 (0.3). Without
	// it, clients that were refused together come back together.
	Jitter float64
	// GiveUpAfter ends a packet that has no receipt that long after it was
	// handed over, with the last refusal, or the code UNKNOWN if it may have been
	// accepted (0: never, only Close does).
	GiveUpAfter time.Duration
}

// DefaultRetryPolicy returns the values given at RetryPolicy's fields.
func DefaultRetryPolicy() RetryPolicy {
	return RetryPolicy{Min: 10 * time.Millisecond, Max: 2 * time.Second, Jitter: 0.3}
}

func (p RetryPolicy) validate() error {
	if p.Min <= 0 || p.Max < p.Min {
		return fmt.Errorf("retry: waits from %v to %v: want 0 < min <= max", p.Min, p.Max)
	}
	if p.Jitter < 0 || p.Jitter > 1 {
		return fmt.Errorf("retry: jitter %v is not between 0 and 1", p.Jitter)
	}
	if p.GiveUpAfter < 0 {
		return errors.New("retry: give up after a negative time")
	}
	return nil
}

// wait returns the wait before try number failures+1; atLeast is the server's.
func (p RetryPolicy) wait(failures int, atLeast time.Duration) time.Duration {
	d := p.Max
	if shift := max(failures-1, 0); shift < 30 && p.Min<<shift < p.Max {
		d = p.Min << shift
	}
	r := rand.Float64()
	d = min(d+time.Duration(float64(d)*p.Jitter*(2*r-1)), p.Max)
	if d < atLeast {
		// Above it, not around it: the server's delay is the earliest time that
		// makes sense.
		d = atLeast + time.Duration(float64(atLeast)*p.Jitter*r)
	}
	return d
}

// maxReconnect is the longest wait between two tries to reach a node that does
// not say itself when to come back: a restart takes less than a second, and all
// that waits in the client waits for it.
const maxReconnect = 400 * time.Millisecond

// reconnect returns the wait after a stream ended with err.
func (p RetryPolicy) reconnect(failures int, err error) time.Duration {
	var e *Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		return p.wait(failures, e.RetryAfter)
	}
	p.Max = min(p.Max, maxReconnect)
	p.Min = min(p.Min, p.Max)
	return p.wait(failures, 0)
}
