package server

import (
	"time"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/messages/wire"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/storage"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// sizes is how a node divides the memory that it may plan with. In 256 MiB all
// of them together, with what Go needs beside, fit; from 4 GiB on they are
// what measuring chose.
type sizes struct {
	memory int64
}

// stateMemTables is how many memtables the state has, at most. They are small: what is
// written again and again gathers in front of them, and what they hold must be applied
// again after a crash.
const stateMemTables = 3

// process is what a process takes that the garbage collector does not know of.
const process = 32 * mib

// beatEvery is how far apart the moments are at which a node with followers proposes
// while packets flow. With less, entries are so many and so small that receipts come
// later, not sooner, once the machine is busy.
const beatEvery = 5 * time.Millisecond

// heap is what is left for Go's own heap once the stores have their memory,
// which with cgo lies outside of it.
func (s sizes) heap() int64 {
	left := s.memory - process
	if outsideHeap {
		// Twice, as measured: C's arenas keep holes about as large as what is used.
		left -= 2 * s.stores()
	}
	return max(left, s.memory/2)
}

// headroom is how much the heap grows at least between two rounds of the garbage
// collector. What is live is small beside what passes through: without it a round
// comes every second under load, and each one costs some tens of milliseconds of
// everybody's latency.
func (s sizes) headroom() int64 { return s.share(64, 0, 64*mib) }

// stores is what the state's memtables and cache take.
func (s sizes) stores() int64 { return stateMemTables*s.stateMemTable() + s.stateCache() }

func (s sizes) stateMemTable() int64 { return s.share(128, 4*mib, 16*mib) }
func (s sizes) stateCache() int64    { return s.share(64, 4*mib, 128*mib) }

// share is a part of the memory within bounds.
func (s sizes) share(part, low, high int64) int64 { return min(max(s.memory/part, low), high) }

func (s sizes) intake(l *config.Limits) int {
	if l.IntakeBytes > 0 {
		return int(l.IntakeBytes)
	}
	return int(s.share(8, 16*mib, 1<<40))
}

func (s sizes) actors(l *config.Limits) int {
	return min(l.Actors, int(s.share(16, 0, 1<<40)/(2*kib))) // an actor takes 1 to 2 KiB
}

func (s sizes) log(c *storage.LogConfig) {
	c.SegmentBytes = s.share(16, 16*mib, 64*mib)
}

func (s sizes) state(c *storage.StateConfig) {
	c.MemTableBytes, c.MemTables, c.CacheBytes = uint64(s.stateMemTable()), stateMemTables, s.stateCache()
}

func (s sizes) engine(c *cluster.Config, groups int) {
	c.CacheBytes = min(max(s.memory/8/int64(groups), 512*kib), 4*mib)
	c.FollowerCacheBytes = min(c.CacheBytes, mib)
}

func (s sizes) relay(c *actors.Config, l *config.Limits) {
	c.Limits = limits(l)
	c.MailboxPackets, c.MailboxBytes = l.MailboxPackets, int(l.MailboxBytes)
	c.IntakeBytes, c.MaxActors, c.Linger = s.intake(l), s.actors(l), l.Linger
	if l.Linger > 0 {
		c.Beat = beatEvery
	}
	// A record of a repository in memory is about half a KiB.
	c.Machine.CachedRepositories = int(min(max(s.memory/16/512/int64(c.Partitions), 512), 16_384))
}

// connections bounds how many there may be: each has buffers of 128 KiB.
func (s sizes) grpcConnections() int { return int(s.share(4*256*kib, 64, 4096)) }
func (s sizes) httpConnections() int { return int(s.share(8*32*kib, 256, 4096)) }
func (s sizes) peerConnections() int { return int(s.share(4*256*kib, 64, 1024)) }

// bodies bounds what HTTP requests hold before the intake counts them.
func (s sizes) bodies() int64 { return s.share(16, 16*mib, 1<<40) }

// message is the largest message that gRPC reads at all. It is far above what is
// allowed, because gRPC itself answers what is beyond with RESOURCE_EXHAUSTED, and
// nothing can change that; what it reads is refused by its field's name.
func (s sizes) message() int { return int(s.share(8, 24*mib, 64*mib)) }

func limits(l *config.Limits) wire.Limits {
	w := wire.DefaultLimits()
	w.Content, w.RepoID, w.PacketID = int(l.ContentBytes), l.RepoIDBytes, l.PacketIDBytes
	w.MetadataPairs, w.MetadataBytes = l.MetadataPairs, int(l.MetadataBytes)
	w.FrameBytes, w.FramePackets = int(l.FrameBytes), l.FramePackets
	return w
}
