package repository

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Config is what Apply needs to know of the cluster's settings. It reaches the
// partition as a command in its own log: two nodes with different flags would
// else delete different packets. Times are milliseconds.
type Config struct {
	Version             uint64
	FeatureLevel        uint64
	DedupWindowMs       uint64
	RetentionMs         uint64 // of packets
	DeadRetentionMs     uint64 // of dead letters
	ProducerIdleMs      uint64 // of producer positions
	BacklogPackets      uint64 // of one repository
	BacklogBytes        uint64 // of one repository
	ResultTTLMs         uint64
	IndexFloor          uint64 // reserved for restore: numbers and tokens stay above it
	ProducerWindowItems uint64 // positions whose receipts are kept
	RetentionBytes      uint64 // of the partition; 0: none
}

const (
	second = 1000
	minute = 60 * second
	hour   = 60 * minute
	day    = 24 * hour
)

// DefaultConfig is the contract's defaults.
func DefaultConfig() Config {
	return Config{
		Version: 1, FeatureLevel: 1,
		DedupWindowMs: hour, RetentionMs: 7 * day, DeadRetentionMs: 30 * day, ProducerIdleMs: 7 * day,
		BacklogPackets: 1_000_000, BacklogBytes: 1 << 30, ResultTTLMs: hour, ProducerWindowItems: 1024,
	}
}

// Append encodes c.
func (c *Config) Append(b []byte) []byte {
	for _, v := range c.fields() {
		b = binary.AppendUvarint(b, *v)
	}
	return b
}

// Decode reads what Append wrote. Fields that an older version did not know keep
// their defaults.
func (c *Config) Decode(b []byte) error {
	*c = DefaultConfig()
	d := decoder{b: b}
	for _, v := range c.fields() {
		if !d.more() {
			break
		}
		*v = d.uvarint()
	}
	if d.err != nil {
		return fmt.Errorf("decode partition settings: %w", d.err)
	}
	return nil
}

func (c *Config) fields() []*uint64 {
	return []*uint64{
		&c.Version, &c.FeatureLevel, &c.DedupWindowMs, &c.RetentionMs, &c.DeadRetentionMs, &c.ProducerIdleMs,
		&c.BacklogPackets, &c.BacklogBytes, &c.ResultTTLMs, &c.IndexFloor, &c.ProducerWindowItems, &c.RetentionBytes,
	}
}

// Validate joins everything that is wrong with c.
func (c *Config) Validate() error {
	var errs []error
	if c.DedupWindowMs < minute || c.DedupWindowMs > 7*day {
		errs = append(errs, errors.New("dedup window: must be between 1 minute and 7 days"))
	}
	if c.RetentionMs < minute {
		errs = append(errs, errors.New("retention: must be at least 1 minute"))
	}
	if c.BacklogPackets == 0 || c.BacklogBytes == 0 {
		errs = append(errs, errors.New("backlog limits: must be at least 1"))
	}
	return errors.Join(errs...)
}

// Start says where a new group begins in the retained packets.
type Start uint8

// The starts. They are stored: never renumber.
const (
	StartEarliest Start = 0
	StartLatest   Start = 1
)

// String is the start as the API names it.
func (s Start) String() string {
	switch s {
	case StartEarliest:
		return "earliest"
	case StartLatest:
		return "latest"
	}
	return fmt.Sprintf("start(%d)", uint8(s))
}

// GroupConfig is a consumer group's settings. Times are milliseconds.
type GroupConfig struct {
	ID            GroupID
	Name          string
	Version       uint64
	MaxAttempts   uint64
	BackoffBaseMs uint64
	BackoffMaxMs  uint64
	BackoffFactor uint64 // in hundredths: 200 doubles
	JitterPercent uint64 // ± of the delay
	LeaseMs       uint64
	MaxBatch      uint64
	Start         Start
	OrderPolicy   OrderPolicy
	ResultTTLMs   uint64    // how long results are kept; 0: as the partition's settings say
	KindTTLs      []KindTTL // of packets of these kinds; each once, in their order
}

// OrderPolicy says what becomes of a lane's order when a packet of it failed for
// good. What ends with its time to live or its retention is passed in any case.
type OrderPolicy uint8

// The policies. They are stored: never renumber.
const (
	OrderSkip  OrderPolicy = 0 // the lane goes on with the next packet
	OrderBlock OrderPolicy = 1 // it waits until the dead letter is redriven or discarded
	OrderPark  OrderPolicy = 2 // what waits in it becomes dead letters too; later packets run
)

// String is the policy as the API names it.
func (p OrderPolicy) String() string {
	switch p {
	case OrderSkip:
		return "skip"
	case OrderBlock:
		return "block"
	case OrderPark:
		return "park"
	}
	return fmt.Sprintf("policy(%d)", uint8(p))
}

// DefaultGroupConfig is the contract's defaults.
func DefaultGroupConfig(name string) GroupConfig {
	return GroupConfig{
		Name: name, Version: 1, MaxAttempts: 5,
		BackoffBaseMs: second, BackoffMaxMs: 5 * minute, BackoffFactor: 200, JitterPercent: 20,
		LeaseMs: 30 * second, MaxBatch: 32,
	}
}

// Append encodes c.
func (c *GroupConfig) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(c.ID))
	b = appendBytes(b, c.Name)
	for _, v := range c.fields() {
		b = binary.AppendUvarint(b, *v)
	}
	b = append(b, byte(c.Start), byte(c.OrderPolicy))
	return c.appendTTLs(b)
}

// Decode reads what Append wrote.
func (c *GroupConfig) Decode(b []byte) error {
	d := decoder{b: b}
	*c = GroupConfig{ID: GroupID(d.uvarint()), Name: string(d.bytes())}
	for _, v := range c.fields() {
		*v = d.uvarint()
	}
	c.Start, c.OrderPolicy = Start(d.byte()), OrderPolicy(d.byte())
	c.decodeTTLs(&d)
	if d.err != nil {
		return fmt.Errorf("decode group settings: %w", d.err)
	}
	return nil
}

func (c *GroupConfig) fields() []*uint64 {
	return []*uint64{
		&c.Version, &c.MaxAttempts, &c.BackoffBaseMs, &c.BackoffMaxMs, &c.BackoffFactor, &c.JitterPercent,
		&c.LeaseMs, &c.MaxBatch,
	}
}

// backoff is the delay before attempt failed+1, in milliseconds: base·factorⁿ,
// capped, with jitter. The jitter comes from the lease's token, so that every
// replica draws the same.
func (c *GroupConfig) backoff(failed uint32, seed uint64) int64 {
	delay := float64(c.BackoffBaseMs)
	limit := float64(c.BackoffMaxMs)
	for i := uint32(1); i < failed && delay < limit; i++ {
		delay *= float64(c.BackoffFactor) / 100
	}
	delay = min(delay, limit)
	seed ^= seed >> 33
	seed *= 0xff51afd7ed558ccd // the finalizer of MurmurHash3, to spread neighbouring tokens
	seed ^= seed >> 33
	spread := float64(seed%2001)/1000 - 1
	return int64(delay * (1 + spread*float64(c.JitterPercent)/100))
}
