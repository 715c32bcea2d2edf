package cli

import (
	"context"
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
