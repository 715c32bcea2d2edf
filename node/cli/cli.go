// Package cli is the command line: the node itself, and the commands that talk
// to one.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

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
}

// commands in the order of the usage text.
func commands() []command {
	return []command{
		{"send", "--repo R [FILE…|-]", "send files, or standard input, as packets", runSend},
		{"work", "--group G -- CMD", "run a command for each packet of a group", runWork},
		{"status", "", "show the cluster and its partitions", runStatus},
		{"repo", "R", "show a repository's head, backlog and cursors", runRepo},
		{"tail", "R", "show a repository's last packets, and follow with -f", runTail},
		{"dead", "list|redrive|discard --group G", "list a group's dead letters, give them another life, or end them", runDead},
		{"group", "create|list|show|set [GROUP]", "make, show and change consumer groups", runGroup},
		{"nodes", "", "show the nodes, and what moves between them", runNodes},
		{"drain", "NODE", "have a node give what it has to the others", runDrain},
		{"remove", "NODE", "end a node's membership for good", runRemove},
		{"backup", "DIR", "write a backup of the cluster into a new folder", runBackup},
		{"restore", "DIR --data-dir NEW", "make a new cluster's first node out of a backup", runRestore},
		{"recover", "--data-dir DIR", "go on without a majority that is gone for good", runRecover},
		{"verify", "", "compare the replicas, and read every payload", runVerify},
		{"version", "", "print the version", runVersion},
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
			return c.run(ctx, s, rest)
		}
	}
	switch {
	case name == "help":
		fmt.Fprint(s.Out, usage())
		return nil
	case name == "serve":
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
