package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/storage"
)

// StateStore is what the engine needs of the state before it truncates a log.
// *storage.State is one.
type StateStore interface {
	// Flush blocks until all that was committed to the state is durable. An error
	// is final: the process must end.
	Flush() error
	// Durable returns a reader of what a crash could not take any more, and what
	// to call when done with it.
	Durable() (r storage.Reader, release func())
	// Snapshot returns the state as it is now, to be closed.
	Snapshot() *storage.StateSnapshot
	// SnapshotRange is Snapshot of the keys in [lower, upper), for a long read.
	SnapshotRange(lower, upper []byte) *storage.StateSnapshot
	// NewStage, Install and DropStage put what was staged in the place of a
	// group's keys, see storage.Stage.
	NewStage(g storage.GroupID) (*storage.Stage, error)
	Install(g storage.GroupID, lower, upper []byte) error
	DropStage(g storage.GroupID) error
}

// Config is what an engine is made from. The zero value of a size or a time is
// not a default: begin with DefaultConfig.
type Config struct {
	// Log holds the entries of all groups; State what is applied. The engine
	// closes neither.
	Log   *storage.Log
	State StateStore
	// Clock returns log time in milliseconds since the Unix epoch. It must
	// never fall, may be called from several goroutines and must not block.
	Clock func() int64
	// Fatal is called at most once, when the log can no longer be trusted: it
	// should end the process. It is called from one of the engine's own
	// goroutines, and must not wait for Stop.
	Fatal func(error)

	// Changed, if set, is called when the term, the leader or the role of this
	// node's replica of a group is another one. It must not block.
	Changed func(g storage.GroupID)

	// Watched says of which groups the followers' states are looked at: these learn
	// at once how far is committed, others with the next entries or the next tick.
	// nil: of none.
	Watched func(g storage.GroupID) bool

	// Transport reaches other nodes; nil while there are none.
	Transport  Transport
	Logger     *slog.Logger
	Registerer prometheus.Registerer

	// Tick is the time between two raft ticks. ElectionTicks without a leader
	// start an election, HeartbeatTicks part two heartbeats.
	Tick                          time.Duration
	ElectionTicks, HeartbeatTicks int
	// Workers is the number of goroutines that share the groups' raft cores.
	Workers int

	// CacheBytes of each group's newest entries are kept in memory where it is led:
	// that is where packets are delivered. FollowerCacheBytes where it is not, and
	// entries only wait to be written and applied. Each keeps one entry in any case.
	CacheBytes, FollowerCacheBytes int64
	// GroupLogBytes is the size at which a group's log is truncated, to about
	// half; TotalLogBytes the same for all groups together. What is still referred
	// to is spilled then, a second write. Payload bytes.
	GroupLogBytes, TotalLogBytes int64
	// SettledLogBytes is by how much all logs together grow until they are
	// truncated as far as hardly anything refers to them. Less than half of the
	// log's memtable keeps most of what is settled soon from ever being flushed.
	SettledLogBytes int64
	// HoldBytes of a group's log are kept at most for a replica that lacks them,
	// and never more than the logs may hold in any case. One that was away for
	// longer gets a snapshot. Payload bytes.
	HoldBytes int64
	// SpillBytes is the most that one slice of spilling copies.
	SpillBytes int
	// BatchBytes ends a log batch. A larger entry has a batch of its own.
	BatchBytes int

	// QueuedProposals and QueuedBytes bound what waits of one group for its
	// worker. What is beyond is refused with ErrDropped; a single proposal is
	// taken whatever its size.
	QueuedProposals, QueuedBytes int
	// SnapshotWait is how long a snapshot that comes in waits for another one.
	SnapshotWait time.Duration
	// Room says, with an error, that bytes more must not be written, and is asked
	// before a snapshot is received and while it comes in; nil: there is always
	// room.
	Room func(bytes int64) error
	// Full says that nothing must be written any more that others could write
	// instead: followers here stop acknowledging entries. It must be quick; nil:
	// never.
	Full func() bool
	// HandoverAfter is how long one synced write may take before this node hands
	// its leaderships over to others.
	HandoverAfter time.Duration
	// SyncLimit is how long one synced write may take before the process ends.
	SyncLimit time.Duration
}

// DefaultConfig returns the settings of a node, without its stores.
func DefaultConfig() Config {
	return Config{
		Tick:               50 * time.Millisecond,
		ElectionTicks:      10,
		HeartbeatTicks:     3,
		Workers:            2,
		CacheBytes:         8 << 20,
		FollowerCacheBytes: 1 << 20,
		GroupLogBytes:      256 << 20,
		TotalLogBytes:      2 << 30,
		SettledLogBytes:    32 << 20,
		HoldBytes:          256 << 20,
		SpillBytes:         1 << 20,
		BatchBytes:         8 << 20,
		QueuedProposals:    1024,
		QueuedBytes:        64 << 20,
		SnapshotWait:       2 * time.Second,
		HandoverAfter:      time.Second,
		SyncLimit:          20 * time.Second,
	}
}

// Validate reports all that is wrong with c.
func (c *Config) Validate() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	need(c.Log != nil, "log is missing")
	need(c.State != nil, "state is missing")
	need(c.Clock != nil, "clock is missing")
	need(c.Fatal != nil, "fatal handler is missing")
	need(c.Logger != nil, "logger is missing")
	need(c.Registerer != nil, "registerer is missing")
	need(c.Tick > 0, "tick must be positive")
	need(c.HeartbeatTicks > 0 && c.ElectionTicks > c.HeartbeatTicks, "election ticks must be more than heartbeat ticks")
	need(c.Workers > 0, "workers must be positive")
	need(c.CacheBytes > 0 && c.FollowerCacheBytes > 0, "cache bytes must be positive")
	need(c.GroupLogBytes > 0 && c.TotalLogBytes >= c.GroupLogBytes, "total log bytes must be at least a group's log bytes")
	need(c.SettledLogBytes > 0, "settled log bytes must be positive")
	need(c.HoldBytes > 0, "hold bytes must be positive")
	need(c.SpillBytes > 0 && c.BatchBytes > 0, "spill and batch bytes must be positive")
	need(c.QueuedProposals > 0 && c.QueuedBytes > 0, "queue limits must be positive")
	need(c.SnapshotWait > 0, "snapshot wait must be positive")
	need(c.HandoverAfter > 0, "handover limit must be positive")
	need(c.SyncLimit > 0, "sync limit must be positive")
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("engine configuration: %w", err)
	}
	return nil
}
