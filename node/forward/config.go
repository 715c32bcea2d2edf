package forward

import (
	"errors"
	"fmt"
	"net/url"
	"time"
)

// Config says where packets go, and how.
type Config struct {
	// Group is the consumer group, as the service is told it.
	Group string
	// URL takes the packets; Fallback, if set, those that URL gave no answer for,
	// or one of 5xx.
	URL, Fallback string
	// Keys sign each request, each with a signature of its own; none: unsigned.
	Keys []Key
	// Timeout bounds one request, with its answer.
	Timeout time.Duration
	// MaxResult bounds, in bytes, what is kept of an answer of 2xx; the rest of it
	// is left unread.
	MaxResult int
	// Pool bounds the connections to URL, and those to Fallback likewise.
	Pool PoolConfig
}

// PoolConfig bounds the connections to one service, each of which carries one
// request at a time.
type PoolConfig struct {
	// KeepMin connections stay open once they are, KeepMax while they are used
	// at least once in 90 s, and Burst more are closed after their request.
	KeepMin, KeepMax, Burst int
	// Wait is how long a request waits for a connection when all are busy.
	Wait time.Duration
}

const (
	// mostResult is the node's limit of a result.
	mostResult = 1 << 20
	mostConns  = 1 << 16
)

// DefaultConfig returns the settings that packets are forwarded with unless others
// are asked for.
func DefaultConfig() Config {
	return Config{
		Timeout: 30 * time.Second, MaxResult: 64 << 10,
		Pool: PoolConfig{KeepMin: 5, KeepMax: 20, Burst: 10, Wait: 30 * time.Second},
	}
}

// Validate joins all faults and changes nothing.
func (c *Config) Validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	errs = append(errs, validURL("url", c.URL))
	if c.Fallback != "" {
		errs = append(errs, validURL("fallback", c.Fallback))
	}
	p := c.Pool
	fault(c.Timeout <= 0, "timeout: %v must be positive", c.Timeout)
	fault(c.MaxResult < 0 || c.MaxResult > mostResult, "result: %d bytes are not between 0 and %d", c.MaxResult, mostResult)
	fault(p.KeepMin < 0 || p.KeepMax < p.KeepMin || p.KeepMax > mostConns,
		"connections: %d to %d kept, want 0 to %d, the least first", p.KeepMin, p.KeepMax, mostConns)
	fault(p.Burst < 0 || p.Burst > mostConns || p.KeepMax+p.Burst < 1, "connections: a burst of %d, want at least one in all", p.Burst)
	fault(p.Wait <= 0, "connections: a wait of %v must be positive", p.Wait)
	return errors.Join(errs...)
}

func validURL(name, s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", name, errors.Unwrap(err)) // not the text itself: it may have a password
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%s: want http://… or https://…", name)
	}
	return nil
}
