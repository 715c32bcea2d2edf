package cli

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/waystation/waystation/client"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/mirror"
)

type mirrorOptions struct {
	to, group    string
	concurrency  int
	exitWhenDone bool
}

func mirrorFlags(fs *pflag.FlagSet) *mirrorOptions {
	o := &mirrorOptions{}
	fs.StringVar(&o.to, "to", "", "`address` of a node of the other cluster, or several with commas (required)")
	fs.StringVar(&o.group, "group", "", "`group` whose cursors say how far the mirror is; made when there is none (default: one for each target cluster)")
	fs.IntVar(&o.concurrency, "concurrency", 64, "repositories that are forwarded at the same time")
	fs.BoolVar(&o.exitWhenDone, "exit-when-empty", false, "end once nothing is left to forward")
	return o
}

// runMirror forwards one cluster's packets to another until it is told to end.
func runMirror(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("mirror")
	addr := addrFlag(fs)
	o := mirrorFlags(fs)
	if err := parse(s, fs, args, "mirror --to ADDR [flags]"); err != nil {
		return helped(err)
	}
	switch {
	case o.to == "":
		return usagef("mirror: --to is required: a node of the cluster that packets are forwarded to")
	case fs.NArg() > 0:
		return usagef("mirror: unknown argument %q", fs.Arg(0))
	case o.concurrency < 1:
		return usagef("mirror: --concurrency must be at least 1")
	}
	drain, _, stop := drainThenKill(ctx, s.Err)
	defer stop()
	source, err := dial(drain, s, *addr)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := dial(drain, s, o.to, client.WithRetry(patient()))
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	defer target.Close()
	m, err := o.mirror(drain, s, *addr, source, target)
	if err != nil {
		return err
	}
	err = m.Run(drain)
	if err != nil && drain.Err() == nil {
		return fmt.Errorf("mirror: %w", err)
	}
	return mirrored(s, *output, m.Stats())
}

// patient never gives a packet up: whoever mirrors waits until the target is back.
func patient() client.RetryPolicy {
	p := client.DefaultRetryPolicy()
	p.GiveUpAfter = 0
	return p
}

func (o *mirrorOptions) mirror(ctx context.Context, s Streams, addr string, source, target *client.Client) (*mirror.Mirror, error) {
	from, err := source.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	to, err := target.Cluster(ctx)
	if err != nil {
		return nil, fmt.Errorf("--to: %w", err)
	}
	group := o.group
	if group == "" {
		group = "mirror-" + to.ClusterID
	}
	logger := slog.New(slog.NewTextHandler(s.Err, nil))
	options := []client.WorkOption{client.WithConcurrency(o.concurrency)}
	if o.exitWhenDone {
		options = append(options, client.WithExitWhenEmpty(whenEmpty))
	}
	m, err := mirror.New(mirror.Config{
		Source: source, Target: target, SourceID: from.ClusterID, TargetID: to.ClusterID,
		Group: group, Options: options, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	return m, mirrorGroup(ctx, s, addr, group)
}

// mirrorGroup makes the mirror's group, or makes sure that the one there is holds its
// lanes: with another policy, packets behind one that the target refuses would
// overtake it.
func mirrorGroup(ctx context.Context, s Streams, addr, group string) error {
	n, err := look(ctx, s, addr)
	if err != nil {
		return err
	}
	defer n.close()
	answer, err := call(ctx, n, n.ListGroups, &waystationv1.ListGroupsRequest{})
	if err != nil {
		return err
	}
	for _, g := range answer.GetGroups() {
		if g.GetName() != group {
			continue
		}
		if policy := g.GetSettings().GetOrderPolicy(); policy != "block" {
			return fmt.Errorf("group %q does not hold a lane at a dead letter, but would %s: `group set %s --order-policy block`, or name another --group",
				group, policy, group)
		}
		return nil
	}
	attempts, policy := uint32(1000), "block"
	_, err = call(ctx, n, n.CreateGroup, &waystationv1.CreateGroupRequest{Name: group, Settings: &waystationv1.GroupSettings{
		OrderPolicy: &policy, MaxAttempts: &attempts,
		BackoffBase: durationpb.New(100 * time.Millisecond), BackoffMax: durationpb.New(10 * time.Second),
	}})
	return err
}

func mirrored(s Streams, output string, x mirror.Stats) error {
	if output == "json" {
		return printJSON(s.Out, x)
	}
	fmt.Fprintf(s.Out, "forwarded: %d, of which the target had %d; from the target itself: %d; refused by it: %d\n",
		x.Forwarded, x.Duplicates, x.Skipped, x.Refused)
	return nil
}
