// Package cli is the command line: the node itself, and the commands that talk
// to one.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// The exit codes.
const (
	exitGood        = 0
	exitNo          = 1 // the answer is no, or a node had to end
	exitUsage       = 2
	exitUnreachable = 3
)

// Streams is what a command reads and writes, so that tests need no process.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) (string, bool)
}

// OSStreams are those of this process.
func OSStreams() Streams {
	return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.LookupEnv}
}

// usageError is a fault of the command line itself.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// unreachableError is a node that does not answer.
type unreachableError struct{ message string }

func (e *unreachableError) Error() string { return e.message }

// errSilent ends with exitNo and says no more: what there is to say was said.
var errSilent = errors.New("no")

// command is one subcommand.
type command struct {
	name    string
	args    string
	summary string
	run     func(ctx context.Context, s Streams, args []string) error
	subs    []command // instead of run: a family of commands
}

// perform runs the command, or the one of its family that args name.
func (c command) perform(ctx context.Context, s Streams, args []string) error {
	if c.subs == nil {
		return c.run(ctx, s, args)
	}
	names := make([]string, len(c.subs))
	for i, sub := range c.subs {
		names[i] = sub.name
		if len(args) > 0 && args[0] == sub.name {
			return sub.run(ctx, s, args[1:])
		}
	}
	switch {
	case len(args) == 0:
		return usagef("%s: want one of: %s", c.name, strings.Join(names, ", "))
	case args[0] == "--help" || args[0] == "-h":
		fmt.Fprintf(s.Out, "Usage: node %s COMMAND [flags]\n\n", c.name)
		return table(s.Out, func(w io.Writer) {
			for _, sub := range c.subs {
				fmt.Fprintf(w, "  %s %s %s\t%s\n", c.name, sub.name, sub.args, sub.summary)
			}
		})
	}
	return usagef("%s: unknown command %q: want one of: %s", c.name, args[0], strings.Join(names, ", "))
}

// commands in the order of the usage text.
func commands() []command {
	return []command{
		{name: "send", args: "--repo R [FILE…|-]", summary: "send files, or standard input, as packets", run: runSend},
		{name: "work", args: "--group G (-- CMD | --forward URL)", summary: "run a command for each packet of a group, or post it to a service", run: runWork},
		{name: "call", args: "--repo R --group G [FILE|-]", summary: "send a packet, and print what a worker of a group leaves with it", run: runCall},
		{name: "result", args: "R PACKET --group G", summary: "print what a worker of a group left with a packet", run: runResult},
		{name: "status", args: "", summary: "show the cluster and its partitions", run: runStatus},
		{name: "repo", args: "R", summary: "show a repository's head, backlog and cursors", run: runRepo},
		{name: "tail", args: "R", summary: "show a repository's last packets, and follow with -f", run: runTail},
		{name: "dead", args: "list|redrive|discard|export|import", summary: "list dead letters, give them another life, end them, keep them as files", subs: deadCommands()},
		{name: "group", args: "create|list|show|set [GROUP]", summary: "make, show and change consumer groups", subs: groupCommands()},
		{name: "mirror", args: "--to ADDR", summary: "forward the packets to another cluster, in order, under the same ids", run: runMirror},
		{name: "nodes", args: "", summary: "show the nodes, and what moves between them", run: runNodes},
		{name: "drain", args: "NODE", summary: "have a node give what it has to the others", run: runDrain},
		{name: "remove", args: "NODE", summary: "end a node's membership for good", run: runRemove},
		{name: "backup", args: "DIR", summary: "write a backup of the cluster into a new folder", run: runBackup},
		{name: "restore", args: "DIR --data-dir NEW", summary: "make a new cluster's first node out of a backup", run: runRestore},
		{name: "recover", args: "--data-dir DIR", summary: "go on without a majority that is gone for good", run: runRecover},
		{name: "verify", args: "", summary: "compare the replicas, and read every payload", run: runVerify},
		{name: "version", args: "", summary: "print the version", run: runVersion},
	}
}

// Main runs the command line and returns the exit code.
func Main(ctx context.Context, s Streams, args []string) int {
	err := dispatch(ctx, s, args)
	var usage *usageError
	var unreachable *unreachableError
	switch {
	case err == nil:
		return exitGood
	case errors.Is(err, errSilent):
		return exitNo
	case errors.As(err, &usage):
		fmt.Fprintf(s.Err, "waystation: %v\n", err)
		return exitUsage
	case errors.As(err, &unreachable):
		fmt.Fprintf(s.Err, "waystation: %v\n", err)
		return exitUnreachable
	}
	fmt.Fprintf(s.Err, "waystation: %v\n", err)
	return exitNo
}

func dispatch(ctx context.Context, s Streams, args []string) error {
	if len(args) == 1 && args[0] == "--version" {
		args = []string{"version"}
	}
	if len(args) == 0 || (len(args[0]) > 0 && args[0][0] == '-') {
		return runServe(ctx, s, args)
	}
	name, rest := args[0], args[1:]
	for _, c := range commands() {
		if c.name == name {
			return c.perform(ctx, s, rest)
		}
	}
	switch name {
	case "help":
		fmt.Fprint(s.Out, usage())
		return nil
	case "serve":
		return usagef("a node serves without a subcommand: leave %q away", name)
	}
	return usagef("unknown command %q: see --help", name)
}

// flags returns an empty flag set for a command, and its --output.
func flags(name string) (fs *pflag.FlagSet, output *string) {
	fs = pflag.NewFlagSet(name, pflag.ContinueOnError)
	fs.SortFlags = false
	fs.Usage = func() {}
	output = fs.String("output", "text", "`format`: text or json")
	return fs, output
}

// errHelp says that the usage was asked for and printed.
var errHelp = errors.New("help")

// parse reads args into fs; errHelp when --help was among them.
func parse(s Streams, fs *pflag.FlagSet, args []string, usageLine string) error {
	err := fs.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintf(s.Out, "Usage: node %s\n\n%s", usageLine, fs.FlagUsagesWrapped(100))
		return errHelp
	}
	if err != nil {
		return usagef("%s: %v", fs.Name(), err)
	}
	if f := fs.Lookup("output"); f != nil && f.Value.String() != "text" && f.Value.String() != "json" {
		return usagef("%s: --output %q: want text or json", fs.Name(), f.Value)
	}
	return nil
}

// helped makes errHelp of parse a good end.
func helped(err error) error {
	if errors.Is(err, errHelp) {
		return nil
	}
	return err
}
