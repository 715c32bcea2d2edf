package server

import (
	"time"

	"github.com/waystation/waystation/cluster"
)

// hooks are what only tests change in a node; the zero value changes nothing.
type hooks struct {
	// Ahead is by how much the node's clock is ahead of the machine's.
	Ahead time.Duration
	// Format is another storage format than this build's.
	Format uint32
	// HoldBytes is how much of a group's log is kept for a replica that is away.
	HoldBytes int64
	// Network is what the other nodes are reached through; nil: the machine's own.
	Network *TrialNetwork
	// DiskFree is what is free where the data folder is, in bytes; nil: the truth.
	DiskFree func() int64
	// Strain is how near a log that is kept for a snapshot is to its limit; nil: the
	// truth.
	Strain func() float64
	// ReplaceAfter is a time that no flag may set.
	ReplaceAfter time.Duration
	// Running is told of the node's engine, once it runs.
	Running func(*cluster.Engine)
}

// measure is how free space is found out.
func (h hooks) measure() func(string) (int64, bool) {
	if h.DiskFree == nil {
		return diskFree
	}
	return func(string) (int64, bool) { return h.DiskFree(), true }
}

// wall is the node's clock.
func (h hooks) wall() func() time.Time {
	if h.Ahead == 0 {
		return time.Now
	}
	return func() time.Time { return time.Now().Add(h.Ahead) }
}
