// Package options holds what a load test was asked to do: the command line's
// flags, their defaults, and what makes no sense together.
package options

import (
	"errors"
	"fmt"
	"time"
)

// Workload names where packets come from.
type Workload string

// The workloads.
const (
	// Source replays the files of a folder.
	Source Workload = "source"
	// Synthetic sends incompressible packets of one size.
	Synthetic Workload = "synthetic"
)

// IDs names the dedup that resends rely on.
type IDs string

// The dedups.
const (
	// ByPosition gives packets no id: a resend repeats its producer position.
	ByPosition IDs = "position"
	// ByID gives every packet an id: a resend repeats it.
	ByID IDs = "id"
)

// Options is what one run does.
type Options struct {
	// Nodes of its own that the run starts with.
	Nodes int
	// NodesGiven says whether Nodes was asked for.
	NodesGiven bool
	// Replication is how many nodes hold each partition, if there are so many.
	Replication int
	// Grow are the numbers of nodes over the run, each for an equal part of it, or longer if it takes longer; empty: no change.
	Grow []int
	// RollingRestart has each node drained and started again, in turn, spread over Duration.
	RollingRestart bool
	// Targets are addresses of running nodes, "host:port,host:port"; empty: own nodes.
	Targets string

	Workload Workload
	// SourceDir is the folder to replay; empty: the Go tree's src, else the current folder.
	SourceDir string
	// Repos, Size (bytes of content) and Skew (Zipf exponent, 0 is uniform) shape the synthetic workload.
	Repos int
	Size  int
	Skew  float64

	// Rate in packets per second; 0 is a closed loop.
	Rate float64
	// Window is how many packets may be without a receipt.
	Window      int
	Connections int
	Workers     int
	Warmup      time.Duration
	Duration    time.Duration
	// Drain is how long after the load everything acknowledged may take to be settled.
	Drain time.Duration
	// Lease of a worker.
	Lease time.Duration
	// Batch is how many packets of one repository come under one lease at most, always; 0: as the
	// client and the relay see fit.
	Batch int
	// Scenario is a course of events with a question of its own, if one was asked for.
	Scenario Scenario

	// Resend is the share of packets, 0 to 1, that are sent again under the same id or position.
	Resend float64
	IDs    IDs
	// Work says whether workers take part; without them every repository is read back.
	Work   bool
	Faults []Fault
	// Between is what stands between nodes that are cut off each other: auto,
	// namespaces or proxies.
	Between string

	Seed uint64
	// SeedGiven says whether Seed was asked for; else the caller draws one.
	SeedGiven bool
	// JSON is the file for the result, "-" for standard output, empty for none.
	JSON string
	// HTML is the file for the result as a page with its pictures, empty for none.
	HTML string
}

// Default returns the options of a run without any flag.
func Default() Options {
	return Options{
		Nodes:       1,
		Replication: 3,
		Workload:    Source,
		Repos:       1000,
		Size:        1024,
		Window:      4096,
		Connections: 8,
		Workers:     8,
		Warmup:      3 * time.Second,
		Duration:    15 * time.Second,
		Drain:       60 * time.Second,
		Lease:       5 * time.Second,
		Resend:      0.01,
		IDs:         ByPosition,
		Work:        true,
		Between:     "auto",
	}
}

// Staged says whether the nodes go through something that has an end of its own. The
// load then lasts until that end, if it is later than Duration's.
func (o *Options) Staged() bool { return o.RollingRestart || len(o.Grow) > 0 }

// maxContent is the relay's limit for one packet's content, in bytes.
const maxContent = 8 << 20

// Validate reports everything that is wrong with the options, joined. It changes nothing.
func (o *Options) Validate() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	errs = append(errs, o.validateNodes()...)
	errs = append(errs, o.validateScenario()...)
	need(o.Batch >= 0 && o.Batch <= 1024, "--batch %d: must be 0 (adaptive) to 1024 packets", o.Batch)
	need(o.Workload == Source || o.Workload == Synthetic, "--workload %q: must be source or synthetic", o.Workload)
	need(o.Repos >= 1 && o.Repos <= 10_000_000, "--repos %d: must be 1 to 10000000", o.Repos)
	need(o.Size >= 0 && o.Size <= maxContent, "--size %d: must be 0 to %d bytes", o.Size, maxContent)
	need(o.Skew >= 0 && o.Skew <= 10, "--skew %v: must be 0 to 10", o.Skew)
	need(o.Rate >= 0 && o.Rate <= 1e8, "--rate %v: must be 0 (closed loop) to 100000000 packets a second", o.Rate)
	need(o.Window >= 1 && o.Window <= 1<<20, "--window %d: must be 1 to %d packets", o.Window, 1<<20)
	need(o.Connections >= 1 && o.Connections <= 1024, "--connections %d: must be 1 to 1024", o.Connections)
	need(o.Workers >= 1 && o.Workers <= 1024, "--workers %d: must be 1 to 1024", o.Workers)
	need(o.Warmup >= 0, "--warmup %v: must not be negative", o.Warmup)
	need(o.Duration > 0, "--duration %v: must be more than 0", o.Duration)
	need(o.Warmup+o.Duration <= maxRun, "--warmup and --duration: %v is more than %v together", o.Warmup+o.Duration, maxRun)
	need(o.Drain >= 0, "--drain %v: must not be negative", o.Drain)
	need(o.Lease >= time.Second && o.Lease <= 12*time.Hour, "--lease %v: must be 1s to 12h", o.Lease)
	need(o.Resend >= 0 && o.Resend <= 1, "--resend %v: must be a share from 0 to 1", o.Resend)
	need(o.IDs == ByPosition || o.IDs == ByID, "--ids %q: must be position or id", o.IDs)
	return errors.Join(errs...)
}

// maxRun is what the verifier's clock (32 bits of 10 µs) can count, with room for the drain.
const maxRun = 10 * time.Hour
