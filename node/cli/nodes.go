package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/api"
)

// runNodes shows the nodes, what moves between them, and what was done to the
// cluster lately.
func runNodes(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("nodes")
	addr := addrFlag(fs)
	if err := parse(s, fs, args, "nodes [flags]"); err != nil {
		return helped(err)
	}
	answer, err := describe(ctx, s, fs, *addr)
	if err != nil {
		return err
	}
	if *output == "json" {
		return printJSON(s.Out, api.DescribeJSON(answer))
	}
	return printNodes(s.Out, answer)
}

// lastOperations is how many of them are shown.
const lastOperations = 10

func printNodes(w io.Writer, r *waystationv1.DescribeClusterResponse) error {
	return table(w, func(w io.Writer) {
		fmt.Fprintf(w, "NODE\tSTATE\tZONE\tGRPC\tPEER\tLEADERS\tREPLICAS\tVERSION\tID\n")
		for _, n := range r.GetNodes() {
			zone := n.GetZone()
			if zone == "" {
				zone = "-"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", printable(n.GetName()), n.GetState(), printable(zone), n.GetAddresses().GetGrpc(),
				n.GetAddresses().GetPeer(), n.GetLeaders(), n.GetReplicas(), n.GetVersion(), n.GetId())
		}
		if moves := movesOf(r); len(moves) > 0 {
			fmt.Fprintf(w, "\nMOVING\n")
			for _, m := range moves {
				fmt.Fprintf(w, "%s\n", printable(m))
			}
		}
		if ops := r.GetOperations(); len(ops) > 0 {
			fmt.Fprintf(w, "\nLATELY\n")
			for _, o := range ops[max(0, len(ops)-lastOperations):] {
				fmt.Fprintf(w, "%s\t%s\n", o.GetAt().AsTime().Local().Format(time.DateTime), printable(o.GetText()))
			}
		}
	})
}

func movesOf(r *waystationv1.DescribeClusterResponse) (moves []string) {
	if m := r.GetMoving(); m != "" {
		moves = append(moves, m)
	}
	for _, p := range r.GetPartitions() {
		if m := p.GetMoving(); m != "" {
			moves = append(moves, m)
		}
	}
	return moves
}

// runDrain asks for a drain and follows it until the node holds nothing.
func runDrain(ctx context.Context, s Streams, args []string) error {
	fs, _ := flags("drain")
	addr := addrFlag(fs)
	undo := fs.Bool("undo", false, "make the node an ordinary one again")
	wait := fs.Duration("wait", 10*time.Minute, "how long to follow it; 0: not at all")
	if err := parse(s, fs, args, "drain NODE [flags]"); err != nil {
		return helped(err)
	}
	if fs.NArg() != 1 {
		return usagef("drain: want one node, by the name or id that `nodes` shows")
	}
	n, err := look(ctx, s, *addr)
	if err != nil {
		return err
	}
	defer n.close()
	if _, err := call(ctx, n, n.DrainNode, &waystationv1.DrainNodeRequest{Node: fs.Arg(0), Undo: *undo}); err != nil {
		return err
	}
	if *undo || *wait == 0 {
		return nil
	}
	return followDrain(ctx, s, n, fs.Arg(0), *wait)
}

const followEvery = 250 * time.Millisecond

// followDrain prints what is left of a node whenever that changes, until nothing
// is.
func followDrain(ctx context.Context, s Streams, n *node, name string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	said := ""
	for {
		answer, err := call(ctx, n, n.DescribeCluster, &waystationv1.DescribeClusterRequest{})
		if err != nil && ctx.Err() == nil {
			return err
		}
		for _, x := range answer.GetNodes() {
			if x.GetName() != name && x.GetId() != name {
				continue
			}
			if x.GetReplicas() == 0 {
				_, err := fmt.Fprintf(s.Out, "%s holds no partition any more: it can be stopped, or removed for good\n", x.GetName())
				return err
			}
			if now := fmt.Sprintf("%s: %d replicas, leads %d; %d groups move", x.GetName(), x.GetReplicas(), x.GetLeaders(), len(movesOf(answer))); now != said {
				said = now
				fmt.Fprintln(s.Out, now)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("the node still holds replicas, perhaps because there is no other node for them: see `nodes`")
		}
	}
}

func runRemove(ctx context.Context, s Streams, args []string) error {
	fs, _ := flags("remove")
	addr := addrFlag(fs)
	if err := parse(s, fs, args, "remove NODE [flags]"); err != nil {
		return helped(err)
	}
	if fs.NArg() != 1 {
		return usagef("remove: want one node, by the name or id that `nodes` shows; `drain` it first if it runs")
	}
	n, err := look(ctx, s, *addr)
	if err != nil {
		return err
	}
	defer n.close()
	_, err = call(ctx, n, n.RemoveNode, &waystationv1.RemoveNodeRequest{Node: fs.Arg(0)})
	return err
}
