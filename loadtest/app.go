package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/waystation/waystation/loadtest/drive"
	"github.com/waystation/waystation/loadtest/fleet"
	"github.com/waystation/waystation/loadtest/options"
	"github.com/waystation/waystation/loadtest/report"
	"github.com/waystation/waystation/loadtest/workload"
)

// Exit codes.
const (
	exitGood     = 0
	exitViolated = 1
	exitUsage    = 2
	exitFailed   = 3
)

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := options.Parse(args, stdout)
	switch {
	case errors.Is(err, options.ErrHelp):
		return exitGood
	case err != nil:
		return complain(stderr, err, "see --help", exitUsage)
	}
	if !fleet.CanPause && o.Has(options.Pause) {
		return complain(stderr, errors.New("--fault pause: this system cannot pause a process"), "leave it out", exitUsage)
	}
	between := fleet.Between(o.Between)
	if o.Has(options.Partition) && between != fleet.Proxies && !fleet.InNamespace() {
		code, err := fleet.Inside(ctx, args, stdout, stderr)
		switch {
		case err == nil:
			return code
		case !errors.Is(err, fleet.ErrNoNamespace):
			return complain(stderr, err, "", exitFailed)
		case between == fleet.Namespaces:
			return complain(stderr, err, "run it on Linux with the ip command, as root or with user namespaces, or with --between proxies", exitFailed)
		}
		fmt.Fprintf(stderr, "loadtest: %v: proxies stand between the nodes\n", err)
	}
	if !o.SeedGiven {
		// 32 bits: easy to type, and exact in any JSON reader.
		o.Seed = uint64(rand.Uint32())
	}
	stream, about, err := openStream(ctx, &o)
	if err != nil {
		return complain(stderr, err, "see --source in --help", exitUsage)
	}
	fmt.Fprintf(stderr, "%s; seed %d\n", about, o.Seed)
	r, err := test(ctx, o, stream, stderr)
	if err != nil {
		return complain(stderr, err, "", exitFailed)
	}
	if err := show(&r, &o, stdout); err != nil {
		return complain(stderr, err, "", exitFailed)
	}
	if !r.OK() {
		return exitViolated
	}
	return exitGood
}

func complain(stderr io.Writer, err error, hint string, code int) int {
	fmt.Fprintf(stderr, "loadtest: %v\n", err)
	if hint != "" {
		fmt.Fprintf(stderr, "loadtest: %s\n", hint)
	}
	return code
}

// openStream returns the workload and a line about it.
func openStream(ctx context.Context, o *options.Options) (workload.Stream, string, error) {
	if o.Workload == options.Synthetic {
		repos := o.Repos
		if o.Scenario.Name == options.Backlog {
			repos += o.SmallLanes()
		}
		return workload.NewSynthetic(repos, o.Size, o.Skew, o.Seed),
			fmt.Sprintf("synthetic: %d repositories, %d bytes a packet", repos, o.Size), nil
	}
	dir := o.SourceDir
	if dir == "" {
		dir = defaultSource(ctx)
	}
	s, err := workload.OpenSource(dir, o.Seed)
	if err != nil {
		return nil, "", err
	}
	about := fmt.Sprintf("source %s: %d files in %d repositories, %d MB", dir, s.Files, len(s.Repos()), s.Bytes>>20)
	if s.Skipped > 0 {
		about += fmt.Sprintf(" (%d passed over: unreadable, no regular files, or larger than a packet may be)", s.Skipped)
	}
	return s, about, nil
}

// defaultSource is real code that every machine with Go has; else what is here.
func defaultSource(ctx context.Context) string {
	if out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output(); err == nil {
		src := filepath.Join(strings.TrimSpace(string(out)), "src")
		if info, err := os.Stat(src); err == nil && info.IsDir() {
			return src
		}
	}
	return "."
}

// test starts what has to be started, and carries the run out.
func test(ctx context.Context, o options.Options, stream workload.Stream, stderr io.Writer) (report.Report, error) {
	cfg := drive.Config{Options: o, Stream: stream, Targets: o.Targets, Progress: stderr, Live: isTerminal(stderr)}
	if o.Targets != "" {
		return carryOut(ctx, cfg, stderr)
	}
	dir, err := os.MkdirTemp("", "waystation-loadtest-")
	if err != nil {
		return report.Report{}, fmt.Errorf("make folder: %w", err)
	}
	nodes, err := startFleet(ctx, &o, dir, stderr)
	if err != nil {
		removeAll(dir, stderr)
		return report.Report{}, err
	}
	cfg.Targets, cfg.Fleet = nodes.Targets(), nodes
	r, err := carryOut(ctx, cfg, stderr)
	nodes.Stop()
	if err == nil && !r.OK() {
		// What the nodes have on disk and in their logs is the evidence.
		fmt.Fprintf(stderr, "kept for a look: %s\n", dir)
	} else {
		removeAll(dir, stderr)
	}
	return r, err
}

// startFleet starts the run's own nodes.
func startFleet(ctx context.Context, o *options.Options, dir string, stderr io.Writer) (*fleet.Fleet, error) {
	network, about, err := chooseNetwork(o, dir)
	if err != nil {
		return nil, err
	}
	var nodes *fleet.Fleet
	nodes, err = fleet.Start(ctx, fleet.Config{
		Dir: dir, Cluster: filepath.Base(dir), Nodes: o.Nodes, Replication: o.Replication, Network: network,
		Lossy: o.Has(options.PowerLoss), Seed: o.Seed,
		Removed: func(ctx context.Context, going []*fleet.Node, stay int) error {
			return remove(ctx, nodes.Targets(), going, stay)
		},
	})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(stderr, "own nodes at %s%s, data in %s\n", nodes.Targets(), about, dir)
	return nodes, nil
}

// chooseNetwork returns one that can be cut if it is to be.
func chooseNetwork(o *options.Options, dir string) (fleet.Network, string, error) {
	if !o.Has(options.Partition) {
		return fleet.Loopback(), "", nil
	}
	network, about, err := fleet.NewNetwork(dir, fleet.Between(o.Between))
	if err != nil {
		return nil, "", fmt.Errorf("--fault partition: %w", err)
	}
	return network, " (" + about + ")", nil
}

func carryOut(ctx context.Context, cfg drive.Config, stderr io.Writer) (report.Report, error) {
	result, err := drive.Run(ctx, cfg)
	for _, note := range result.Notes {
		fmt.Fprintln(stderr, note)
	}
	made := report.New(result.Totals, result.Figures)
	made.Add(result.Scenario)
	return made, err
}

func removeAll(dir string, stderr io.Writer) {
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintf(stderr, "loadtest: remove folder: %v\n", err)
	}
}

// show writes the report for people, and as JSON and as a page where asked for.
func show(r *report.Report, o *options.Options, stdout io.Writer) error {
	if o.HTML != "" {
		if err := writeFile(o.HTML, func(w io.Writer) error { return r.WriteHTML(w, o.Work) }); err != nil {
			return err
		}
	}
	if o.JSON == "-" {
		return r.WriteJSON(stdout)
	}
	if o.JSON != "" {
		if err := writeFile(o.JSON, r.WriteJSON); err != nil {
			return err
		}
	}
	return r.WriteText(stdout, o.Work)
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return errors.Join(write(f), f.Close())
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
