package route

import (
	"errors"
	"fmt"
	"time"

	"github.com/waystation/waystation/messages/wire"
)

// Config is what a Router needs to know.
type Config struct {
	// Partitions and HashSeed are the cluster's, as in actors.Config.
	Partitions int
	HashSeed   uint64
	// ClusterID is what clients know the cluster by.
	ClusterID string
	// Limits are those of the public interface, the same on every node.
	Limits wire.Limits

	// CreditBytes and CreditPackets bound what this node has forwarded to one
	// partition and has no answer to.
	CreditBytes   int
	CreditPackets int
	// LinkPackets bounds the same for one node, over its partitions. It should be
	// below what a server reads from one stream ahead of its answers.
	LinkPackets int
	// FrameBytes bounds the frames that packets are forwarded in; one bigger packet
	// makes one alone.
	FrameBytes int
	// Patience is how long a former leader may still answer what it was sent.
	Patience time.Duration
	// AnswerTimeout ends a stream on which nothing is answered any more.
	AnswerTimeout time.Duration
	// CallTimeout bounds a forwarded call, beyond what its caller allows.
	CallTimeout time.Duration
}

// DefaultConfig returns the settings for a cluster of 16 partitions in one place.
func DefaultConfig() Config {
	return Config{
		Partitions: 16, Limits: wire.DefaultLimits(),
		CreditBytes: 16 << 20, CreditPackets: 4096, LinkPackets: 15_000, FrameBytes: 1 << 20,
		Patience: 300 * time.Millisecond, AnswerTimeout: 10 * time.Second, CallTimeout: 10 * time.Second,
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
		{"credit bytes", c.CreditBytes},
		{"credit packets", c.CreditPackets},
		{"packets of a link", c.LinkPackets},
		{"frame bytes", c.FrameBytes},
		{"patience", int(c.Patience)},
		{"answer timeout", int(c.AnswerTimeout)},
		{"call timeout", int(c.CallTimeout)},
	} {
		if v.value <= 0 {
			errs = append(errs, fmt.Errorf("%s: %d, must be positive", v.name, v.value))
		}
	}
	if err := c.Limits.Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.FrameBytes > c.Limits.FrameBytes {
		errs = append(errs, fmt.Errorf("frame bytes: %d, at most %d are allowed in a frame", c.FrameBytes, c.Limits.FrameBytes))
	}
	if need := c.Limits.MessageBytes(); c.CreditBytes < need {
		errs = append(errs, fmt.Errorf("credit bytes: %d, must hold the largest packet of %d", c.CreditBytes, need))
	}
	return errors.Join(errs...)
}
