package replica

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/storage"
)

// LogReader reads the written part of the raft logs. *storage.Log is one.
//
// Entries returns entries from lo on, below hi: at least one, and not more
// than maxBytes of them beyond the first. It returns storage.ErrCompacted when
// lo was cut off. The result and its data belong to the caller.
type LogReader interface {
	Entries(g storage.GroupID, lo, hi, maxBytes uint64) ([]storage.Entry, error)
	Term(g storage.GroupID, index uint64) (uint64, error)
}

// Cache keeps the newest entries that were handed out for writing.
// *entrycache.Cache is one. The entries are shared and must not be changed.
type Cache interface {
	// Put appends entries, after it dropped what they overwrite.
	Put(ents []*pb.Entry)
	// Slice returns entries from lo on, below hi, of at most maxBytes (but one
	// in any case), or nil if lo is not held. The slice is the caller's.
	Slice(lo, hi, maxBytes uint64) []*pb.Entry
	// First returns the oldest index held, or 0.
	First() uint64
	Term(index uint64) (term uint64, held bool)
	// Clear drops all: a snapshot took the place of the log.
	Clear()
}

// Config is what a replica is made from.
type Config struct {
	// Group is the raft group, ID this replica's id in it.
	Group storage.GroupID
	ID    storage.ReplicaID
	// Start is what Reconcile made of the disk, the configuration too.
	Start Start
	// Log reads entries that have left the cache.
	Log LogReader
	// Cache keeps what was written last.
	Cache Cache

	// ElectionTicks without a leader start an election; HeartbeatTicks part
	// two heartbeats.
	ElectionTicks, HeartbeatTicks int
	// MaxMessageBytes bounds one append message. A larger entry travels alone.
	MaxMessageBytes uint64
	// MaxUncommittedBytes bounds what is proposed and not yet committed; more
	// is dropped. A larger entry is taken when it is the only one.
	MaxUncommittedBytes uint64
	// MaxApplyingBytes bounds what is handed out for applying at a time.
	MaxApplyingBytes uint64
	// MaxInflightMessages bounds the unanswered append messages to one peer.
	MaxInflightMessages int
	// LateCommits keeps what only says how far is committed until the next tick,
	// unless entries go to the same peer before: nobody waits for a follower to
	// apply.
	LateCommits bool

	// Logger takes what raft has to say; nil discards it, except panics.
	Logger raft.Logger
}

// DefaultConfig returns the sizes and ticks for ticks of 50 ms: elections
// after 0.5 to 1 s, heartbeats each 100 ms.
func DefaultConfig() Config {
	return Config{
		ElectionTicks:       10,
		HeartbeatTicks:      2,
		MaxMessageBytes:     1 << 20,
		MaxUncommittedBytes: 64 << 20,
		MaxApplyingBytes:    16 << 20,
		MaxInflightMessages: 64,
	}
}

// Validate reports all that is wrong with c.
func (c *Config) Validate() error {
	var errs []error
	if c.ID == 0 {
		errs = append(errs, errors.New("replica id is zero"))
	}
	if c.Log == nil || c.Cache == nil {
		errs = append(errs, errors.New("log reader or cache is missing"))
	}
	if c.HeartbeatTicks < 1 || c.ElectionTicks <= c.HeartbeatTicks {
		errs = append(errs, fmt.Errorf("election ticks %d must be more than heartbeat ticks %d, and those at least 1",
			c.ElectionTicks, c.HeartbeatTicks))
	}
	if c.MaxMessageBytes == 0 || c.MaxUncommittedBytes == 0 || c.MaxApplyingBytes == 0 || c.MaxInflightMessages < 1 {
		errs = append(errs, errors.New("a size limit is zero"))
	}
	return errors.Join(errs...)
}

// maxTicks is how many ticks one call of Tick may count. A process that slept
// would otherwise campaign for all the time that it slept.
func (c *Config) maxTicks() int { return max(1, c.ElectionTicks/5) }
