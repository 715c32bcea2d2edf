package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/api"
	"github.com/waystation/waystation/node/config"
)

// printJSON writes v as one line, as the HTTP interface would answer it.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}

// printMessage writes what a call answered as one line, in the names and forms of the
// HTTP interface.
func printMessage(w io.Writer, m proto.Message) error {
	line, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return printJSON(w, json.RawMessage(line))
}

func table(w io.Writer, fill func(w io.Writer)) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fill(t)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}

func runVersion(_ context.Context, s Streams, args []string) error {
	fs, output := flags("version")
	if err := parse(s, fs, args, "version"); err != nil {
		return helped(err)
	}
	if *output == "json" {
		return printJSON(s.Out, map[string]string{"version": config.Version(), "go": runtime.Version()})
	}
	_, err := fmt.Fprintf(s.Out, "waystation %s (%s %s/%s)\n", config.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// runStatus shows the cluster; the answer is no when a partition has no leader.
func runStatus(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("status")
	addr := addrFlag(fs)
	wait := fs.Duration("wait", 0, "how long to wait until every partition has a leader, as after the loss of a node, and --copies; 0: not at all")
	copies := fs.Uint32("copies", 0, "durable copies that every partition has to have: else the answer is no")
	if err := parse(s, fs, args, "status [flags]"); err != nil {
		return helped(err)
	}
	if *wait < 0 {
		return usagef("status: --wait %v: want a time such as 10s", *wait)
	}
	want := func(r *waystationv1.DescribeClusterResponse) bool {
		return leaderless(r) == 0 && leastCopies(r) >= *copies
	}
	answer, err := describeUntil(ctx, s, fs, *addr, *wait, want)
	if err != nil {
		return err
	}
	if *output == "json" {
		err = printJSON(s.Out, api.DescribeJSON(answer))
	} else {
		err = printStatus(s.Out, answer)
	}
	if err == nil && !want(answer) {
		return errSilent
	}
	return err
}

// describe asks a node for its picture of the cluster, for a command without
// arguments.
func describe(ctx context.Context, s Streams, fs *pflag.FlagSet, addr string) (*waystationv1.DescribeClusterResponse, error) {
	if fs.NArg() > 0 {
		return nil, usagef("%s: unknown argument %q", fs.Name(), fs.Arg(0))
	}
	n, err := look(ctx, s, addr)
	if err != nil {
		return nil, err
	}
	defer n.close()
	return call(ctx, n, n.DescribeCluster, &waystationv1.DescribeClusterRequest{})
}

// describeUntil asks again, perhaps another node, until the cluster is as wanted or
// wait is over; then it gives what it heard last.
func describeUntil(ctx context.Context, s Streams, fs *pflag.FlagSet, addr string, wait time.Duration,
	want func(*waystationv1.DescribeClusterResponse) bool,
) (*waystationv1.DescribeClusterResponse, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		answer, err := describe(ctx, s, fs, addr)
		if _, usage := errors.AsType[*usageError](err); usage || err == nil && want(answer) {
			return answer, err
		}
		select {
		case <-over.C:
			return answer, err
		case <-ctx.Done():
			return answer, err
		case <-tick.C:
		}
	}
}

func leaderless(r *waystationv1.DescribeClusterResponse) (n int) {
	for _, p := range r.GetPartitions() {
		if p.GetLeader() == "" {
			n++
		}
	}
	return n
}

// leastCopies are the durable copies of the partition that has the fewest.
func leastCopies(r *waystationv1.DescribeClusterResponse) uint32 {
	if len(r.GetPartitions()) == 0 {
		return 0
	}
	least := ^uint32(0)
	for _, p := range r.GetPartitions() {
		least = min(least, p.GetDurableCopies())
	}
	return least
}

func printStatus(w io.Writer, r *waystationv1.DescribeClusterResponse) error {
	return table(w, func(w io.Writer) {
		fmt.Fprintf(w, "cluster\t%s (%s)\n", r.GetName(), r.GetClusterId())
		fmt.Fprintf(w, "partitions\t%d, %d without a leader\n", len(r.GetPartitions()), leaderless(r))
		if len(r.GetPartitions()) > 0 {
			fmt.Fprintf(w, "durable copies\t%d\n", leastCopies(r))
		}
		fmt.Fprintf(w, "\nNODE\tSTATE\tGRPC\tHTTP\tVERSION\tLEADERS\tREPLICAS\n")
		for _, n := range r.GetNodes() {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\n", n.GetName(), n.GetState(), n.GetAddresses().GetGrpc(),
				n.GetAddresses().GetHttp(), n.GetVersion(), n.GetLeaders(), n.GetReplicas())
		}
	})
}

func runRepo(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("repo")
	addrFlag(fs)
	n, repo, err := lookAt(ctx, s, fs, args, "repo R [flags]", "one repository, as in: repo acme/api")
	if err != nil {
		return helped(err)
	}
	defer n.close()
	answer, err := call(ctx, n, n.GetRepository, &waystationv1.GetRepositoryRequest{RepoId: repo})
	if err != nil {
		return err
	}
	if *output == "json" {
		return printJSON(s.Out, api.RepoJSON(answer))
	}
	return table(s.Out, func(w io.Writer) {
		fmt.Fprintf(w, "repository\t%s\n", printable(answer.GetRepoId()))
		fmt.Fprintf(w, "head\t%d\n", answer.GetHead())
		fmt.Fprintf(w, "backlog\t%d packets, %d bytes\n", answer.GetBacklog(), answer.GetBacklogBytes())
		fmt.Fprintf(w, "partition\t%d\n", answer.GetPartition())
		if answer.GetParked() {
			fmt.Fprintf(w, "parked\tits actor kept failing: see the node's log\n")
		}
		if len(answer.GetGroups()) > 0 {
			fmt.Fprintf(w, "\nGROUP\tWAITING\tHIGH\tNORMAL\tLOW\tATTEMPTS\tLEASED UNTIL\n")
		}
		for _, g := range answer.GetGroups() {
			until := "-"
			if g.GetLeasedUntil() != nil {
				until = g.GetLeasedUntil().AsTime().Local().Format(time.DateTime)
			}
			c := g.GetCursors()
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\n", printable(g.GetGroup()), g.GetWaiting(), c.GetHigh(), c.GetNormal(), c.GetLow(),
				g.GetAttempts(), until)
		}
	})
}

// printable keeps what a stranger wrote from driving the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// preview is the beginning of content on one line, for a terminal.
func preview(content []byte, most int) string {
	if len(content) > 4*most {
		content = content[:4*most]
	}
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(content), "\uFFFD")), " ")
	runes := []rune(printable(text))
	if len(runes) > most {
		runes = append(runes[:most-1], '…')
	}
	return string(runes)
}
