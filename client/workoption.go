package client

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// WorkOption sets something about one Work call.
type WorkOption func(*workConfig)

type workConfig struct {
	group        string
	name         string
	concurrency  int
	credit       int
	maxBatch     int
	lease        time.Duration
	maxPackets   int
	idle         time.Duration
	exitEmpty    bool
	drainTimeout time.Duration
	version      string
	weight       uint32
	metadata     map[string]string
	warmUp       func(context.Context) error
	timeout      time.Duration
	fallback     Handler
	slowStart    bool
}

func defaultWorkConfig(group string) workConfig {
	return workConfig{group: group, concurrency: 8, drainTimeout: 30 * time.Second}
}

// defaultBatch is the relay's own default.
const defaultBatch = 32

// settle fills in what follows from other settings.
func (c *workConfig) settle() {
	if c.credit == 0 {
		c.credit = 4 * c.concurrency
	}
	if c.maxBatch == 0 {
		c.maxBatch = min(max(c.credit/c.concurrency, 1), defaultBatch)
	}
	if c.name == "" {
		c.name = randomName()
	}
}

// validate joins all faults and changes nothing.
func (c *workConfig) validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(c.group == "", "group: is empty")
	fault(len(c.name) > maxWorkerName, "worker name: %d bytes, at most %d", len(c.name), maxWorkerName)
	fault(c.concurrency < 1, "concurrency: %d, must be at least 1", c.concurrency)
	fault(c.credit < 0, "credit: %d is negative", c.credit)
	fault(c.maxBatch < 0, "max batch: %d is negative", c.maxBatch)
	fault(c.lease != 0 && (c.lease < time.Second || c.lease > 12*time.Hour), "lease: %v is not between 1s and 12h", c.lease)
	fault(c.maxPackets < 0, "max packets: %d is negative", c.maxPackets)
	fault(c.idle < 0, "exit when empty: %v is negative", c.idle)
	fault(len(c.version) > maxWorkerVersion, "worker version: %d bytes, at most %d", len(c.version), maxWorkerVersion)
	fault(c.timeout < 0, "packet timeout: %v is negative", c.timeout)
	errs = append(errs, checkWorkerMetadata(c.metadata))
	fault(c.drainTimeout < 0, "drain timeout: %v is negative", c.drainTimeout)
	return errors.Join(errs...)
}

// WithConcurrency sets how many handlers run at the same time, each for another
// repository (8).
func WithConcurrency(n int) WorkOption { return func(c *workConfig) { c.concurrency = n } }

// WithCredit sets how many packets the worker holds at once, those included that
// wait for a handler (4 × concurrency).
func WithCredit(packets int) WorkOption { return func(c *workConfig) { c.credit = packets } }

// WithMaxBatch bounds how many packets of one repository come under one lease. By
// default it is credit / concurrency, at most 32, so that one long backlog does
// not take the credit that other repositories' handlers wait for.
func WithMaxBatch(packets int) WorkOption { return func(c *workConfig) { c.maxBatch = packets } }

// WithLease sets how long a lease lasts without a renewal, 1 s to 12 h; by
// default the group's setting. Leases are renewed while handlers run, so it says
// how soon another worker takes over from one that died.
func WithLease(d time.Duration) WorkOption { return func(c *workConfig) { c.lease = d } }

// WithWorkerName names the worker; random by default. A worker that comes back
// under its name gets its open leases again at once. Two that run at the same
// time must not share one.
func WithWorkerName(name string) WorkOption { return func(c *workConfig) { c.name = name } }

// WithMaxPackets ends Work after that many calls of the handler (0: no end).
func WithMaxPackets(n int) WorkOption { return func(c *workConfig) { c.maxPackets = n } }

// WithExitWhenEmpty ends Work once there has been nothing to do for idle.
func WithExitWhenEmpty(idle time.Duration) WorkOption {
	return func(c *workConfig) { c.exitEmpty, c.idle = true, idle }
}

// WithDrainTimeout sets how long running handlers may take after Work was told
// to end; then their contexts end with the cause ErrDrainTimeout (30 s).
func WithDrainTimeout(d time.Duration) WorkOption {
	return func(c *workConfig) { c.drainTimeout = d }
}
