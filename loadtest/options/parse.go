package options

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ErrHelp says that help was asked for, and printed.
var ErrHelp = flag.ErrHelp

// Parse reads the command line, without the program's name, over the defaults.
// Help is written to out. The error names every fault and is meant for the user;
// the options are of use only without one.
func Parse(args []string, out io.Writer) (Options, error) {
	o := Default()
	phases := "publish,work"
	fs := newFlagSet(&o, &phases)
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		usage(fs, out)
		return o, ErrHelp
	case err != nil:
		return o, err
	case fs.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q: everything is a flag", fs.Arg(0))
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	o.SeedGiven, o.NodesGiven = given["seed"], given["nodes"]
	work, err := parsePhases(phases)
	if err != nil {
		return o, err
	}
	o.Work = work
	if len(o.Grow) > 0 && !o.NodesGiven {
		o.Nodes = o.Grow[0]
	}
	o.scenarioDefaults(given)
	return o, o.Validate()
}

func newFlagSet(o *Options, phases *string) *flag.FlagSet {
	fs := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.IntVar(&o.Nodes, "nodes", o.Nodes, "own nodes, as processes in a temporary folder, 1 to 9")
	fs.IntVar(&o.Replication, "replication", o.Replication, "nodes that hold each partition: 1, 3 or 5")
	fs.Func("grow", "`1,3,1`: so many nodes, each for an equal part of the run; the load lasts until there are as many as the last", func(s string) (err error) {
		o.Grow, err = parseGrow(s)
		return err
	})
	fs.BoolVar(&o.RollingRestart, "rolling-restart", o.RollingRestart, "drain and start each node again, in turn, spread over --duration; the load lasts until all are back")
	fs.StringVar(&o.Targets, "target", o.Targets, "running nodes instead of own ones: `host:port,…`")
	fs.Func("workload", "`source` or synthetic (default source)", func(s string) error { o.Workload = Workload(s); return nil })
	fs.StringVar(&o.SourceDir, "source", o.SourceDir, "`folder` to replay (default: src of the Go tree, else the current folder)")
	fs.IntVar(&o.Repos, "repos", o.Repos, "repositories of the synthetic workload")
	fs.IntVar(&o.Size, "size", o.Size, "`bytes` of content of the synthetic workload")
	fs.Float64Var(&o.Skew, "skew", o.Skew, "Zipf exponent over the synthetic repositories; 0 is uniform")
	fs.Float64Var(&o.Rate, "rate", o.Rate, "packets a `second`; 0 is a closed loop")
	fs.IntVar(&o.Window, "window", o.Window, "packets without a receipt at most")
	fs.IntVar(&o.Connections, "connections", o.Connections, "connections that publish")
	fs.IntVar(&o.Workers, "workers", o.Workers, "worker sessions")
	fs.DurationVar(&o.Warmup, "warmup", o.Warmup, "load before figures are taken")
	fs.DurationVar(&o.Duration, "duration", o.Duration, "load while figures are taken")
	fs.DurationVar(&o.Drain, "drain", o.Drain, "longest wait for the rest after the load")
	fs.DurationVar(&o.Lease, "lease", o.Lease, "lease of the workers")
	fs.IntVar(&o.Batch, "batch", o.Batch, "`packets` of one repository under one lease at most; 0: adaptive, up to 32")
	fs.Func("scenario", "`workers-die`, isolation or backlog, with a question of its own: see above", func(s string) (err error) {
		o.Scenario, err = ParseScenario(s)
		return err
	})
	fs.Float64Var(&o.Resend, "resend", o.Resend, "`share` of packets that are sent twice")
	fs.Func("ids", "which dedup resends rely on: `position` or id (default position)", func(s string) error { o.IDs = IDs(s); return nil })
	fs.StringVar(phases, "phases", *phases, "`publish,work`, or publish: then every repository is read back")
	fs.Func("fault", "`kill:every=5s[,pause:every=7s,for=1s]`, under load: kill, pause, partition, powerloss, slowdisk", func(s string) (err error) {
		o.Faults, err = ParseFaults(s)
		return err
	})
	fs.StringVar(&o.Between, "between", o.Between, "what a partition cuts: network `namespaces`, proxies, or auto: namespaces where there are rights")
	fs.Uint64Var(&o.Seed, "seed", o.Seed, "seed of the workload (default: drawn, and shown)")
	fs.StringVar(&o.JSON, "json", o.JSON, "`file` for the result as JSON; - is standard output")
	fs.StringVar(&o.HTML, "html", o.HTML, "`file` for the result as a page, with pictures of a scenario")
	refuseLater(fs)
	return fs
}

// refuseLater names the flags of the contract that this version does not serve,
// so that a script learns why instead of "not defined".
func refuseLater(fs *flag.FlagSet) {
	refuse := func(string) error { return errors.New("not in this version") }
	for _, name := range []string{"burst"} {
		fs.Func(name, "not in this version", refuse)
	}
}

// parseGrow reads numbers of nodes with commas.
func parseGrow(s string) (stages []int, err error) {
	for part := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, fmt.Errorf("%q: want numbers of nodes with commas, such as 1,3,1", s)
		}
		stages = append(stages, n)
	}
	return stages, nil
}

func parsePhases(s string) (work bool, err error) {
	publish := false
	for phase := range strings.SplitSeq(s, ",") {
		switch phase {
		case "publish":
			publish = true
		case "work":
			work = true
		default:
			return false, fmt.Errorf("--phases %q: must be publish or publish,work", s)
		}
	}
	if !publish {
		return false, fmt.Errorf("--phases %q: without publish there is nothing to work off", s)
	}
	return work, nil
}

func usage(fs *flag.FlagSet, out io.Writer) {
	fmt.Fprint(out, `Usage: go run ./loadtest [flags]

Puts load on Waystation nodes and checks that nothing was lost, duplicated,
reordered, or accepted under a stale lease. Without flags it starts a node of
its own and replays real code for about 30 seconds.

Three nodes, killed, paused and cut off each other in turn:
  go run ./loadtest --nodes 3 --duration 60s --fault kill:every=10s,pause:every=7s,partition:every=13s

Scenarios:
  --scenario workers-die[:every=3s]        half of the workers die at once: never two valid leases
                                           on a repository; the speed is back within a lease
  --scenario isolation[:every=1s,hot=0.5]  a stuck, a failing and a hot repository come and go, each
                                           second: what the p99 of all others makes of it
  --scenario backlog[:depth=10,small=0.01] so many packets wait in each of --repos lanes, before that
                                           in a hundredth of them; then workers come

Exit codes: 0 good, 1 a promise was violated or a scenario's goal missed, 2 usage, 3 could not run.

`)
	fs.SetOutput(out)
	fs.PrintDefaults()
}
