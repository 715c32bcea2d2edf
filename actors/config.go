package actors

import (
	"errors"
	"fmt"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
	"github.com/waystation/waystation/storage"
)

// Config is what a Relay needs to know.
type Config struct {
	// Partitions is the number of partitions, fixed when a cluster is made.
	Partitions int
	// HashSeed spreads repositories over partitions; part of the storage format.
	HashSeed uint64
	// Limits bound what a packet may be.
	Limits wire.Limits
	// Machine is handed to each partition's replicated core.
	Machine repository.Options

	// MailboxPackets and MailboxBytes bound what waits at one repository's actor.
	MailboxPackets int
	MailboxBytes   int
	// IntakeBytes bounds what the node holds and has not proposed yet.
	IntakeBytes int
	// InFlight bounds a producer's unanswered packets of one repository.
	InFlight int
	// EntryBytes and EntryPackets bound an entry; one bigger packet makes one alone.
	EntryBytes   int
	EntryPackets int
	// Linger is how long a nearly idle partition waits for company before it
	// proposes; 0: never. It pays when an entry costs a round of the whole cluster.
	Linger time.Duration

	// Beat is how far apart the moments are at which all partitions of the node
	// propose while packets flow steadily and Alone says that there are followers;
	// 0: whenever each one can.
	Beat time.Duration

	// MaxActors bounds the active repositories; the least recently used ones above
	// it are passivated.
	MaxActors int
	// IdleAfter is when an unused actor is passivated.
	IdleAfter time.Duration
	// RestartMin and RestartMax bound the delay before a failed actor's restart.
	RestartMin time.Duration
	RestartMax time.Duration
	// ParkAfter is how many failures without a pause of FailureWindow park a
	// repository.
	ParkAfter     int
	FailureWindow time.Duration

	// Alone says that a group has no other replica, so that its entries cost little;
	// nil: none has. It must not block.
	Alone func(g storage.GroupID) bool
	// NotProposed says that an error of the Proposer means: certainly not
	// proposed. All others mean that the outcome is unknown; nil: all do.
	NotProposed func(error) bool
	// Damaged is told of a payload that is not what was accepted, by log, spill or
	// checksum, and says whether other replicas have it: this one is then given up,
	// and nothing is decided by it. It may be called at any time and must not block;
	// nil: there are no others.
	Damaged func(g storage.GroupID, err error) bool
}

// DefaultConfig returns the contract's defaults.
func DefaultConfig() Config {
	return Config{
		Partitions:     16,
		Limits:         wire.DefaultLimits(),
		MailboxPackets: 1024,
		MailboxBytes:   8 << 20,
		IntakeBytes:    128 << 20,
		InFlight:       1024,
		EntryBytes:     512 << 10,
		EntryPackets:   4096,
		MaxActors:      50_000,
		IdleAfter:      time.Minute,
		RestartMin:     10 * time.Millisecond,
		RestartMax:     10 * time.Second,
		ParkAfter:      8,
		FailureWindow:  time.Minute,
	}
}

// Validate joins everything that is wrong with c.
func (c *Config) Validate() error {
	var errs []error
	for _, v := range []struct {
		name  string
		value int
	}{
		{"partitions", c.Partitions},
		{"mailbox packets", c.MailboxPackets},
		{"mailbox bytes", c.MailboxBytes},
		{"intake bytes", c.IntakeBytes},
		{"packets in flight", c.InFlight},
		{"entry bytes", c.EntryBytes},
		{"entry packets", c.EntryPackets},
		{"active repositories", c.MaxActors},
		{"failures until parked", c.ParkAfter},
		{"idle time", int(c.IdleAfter)},
		{"failure window", int(c.FailureWindow)},
		{"restart delay", int(c.RestartMin)},
	} {
		if v.value <= 0 {
			errs = append(errs, fmt.Errorf("%s: %d, must be positive", v.name, v.value))
		}
	}
	if c.Partitions > 1<<16 {
		errs = append(errs, fmt.Errorf("partitions: %d, at most 65,536", c.Partitions))
	}
	if c.RestartMax < c.RestartMin {
		errs = append(errs, fmt.Errorf("restart delay: largest %v is below smallest %v", c.RestartMax, c.RestartMin))
	}
	if c.Linger < 0 || c.Linger > 100*time.Millisecond {
		errs = append(errs, fmt.Errorf("linger: %v, must be between 0 and 100ms", c.Linger))
	}
	if c.Beat < 0 || c.Beat > 100*time.Millisecond {
		errs = append(errs, fmt.Errorf("beat: %v, must be between 0 and 100ms", c.Beat))
	}
	if err := c.Limits.Validate(); err != nil {
		errs = append(errs, err)
	}
	if need := c.Limits.MessageBytes(); c.IntakeBytes < need {
		errs = append(errs, fmt.Errorf("intake bytes: %d, must hold the largest packet of %d", c.IntakeBytes, need))
	}
	return errors.Join(errs...)
}
