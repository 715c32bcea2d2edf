package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// runVerify has all replicas compared, and says which one is not as the others.
func runVerify(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("verify")
	addr := addrFlag(fs)
	limit := fs.Duration("limit", 10*time.Minute, "how long it may take, up to 1h")
	if err := parse(s, fs, args, "verify [flags]"); err != nil {
		return helped(err)
	}
	if fs.NArg() > 0 {
		return usagef("verify: unknown argument %q", fs.Arg(0))
	}
	if *limit < time.Second || *limit > time.Hour {
		return usagef("verify: --limit %s: want 1s to 1h", *limit)
	}
	n, err := look(ctx, s, *addr)
	if err != nil {
		return err
	}
	defer n.close()
	ctx, cancel := context.WithTimeout(ctx, *limit+callLimit)
	defer cancel()
	answer, err := n.VerifyCluster(ctx, &waystationv1.VerifyClusterRequest{LimitMs: uint32(limit.Milliseconds())})
	if err != nil {
		return explain(err, n.addr)
	}
	out := s.Out
	if *output == "json" {
		out = io.Discard
		if err := printMessage(s.Out, answer); err != nil {
			return err
		}
	}
	if good := printVerified(out, answer); !good {
		return errSilent
	}
	return nil
}

// printVerified prints what is wrong, and the sum of what is not.
func printVerified(w io.Writer, r *waystationv1.VerifyClusterResponse) bool {
	replicas, partitions, bad := 0, 0, 0
	var records, payloads uint64
	for _, g := range r.GetGroups() {
		what := fmt.Sprintf("partition %d", g.GetPartition())
		if g.GetMeta() {
			what = "the cluster's own state"
		}
		if g.GetError() != "" {
			fmt.Fprintf(w, "%s: not compared: %s\n", what, printable(g.GetError()))
			bad++
		} else if len(g.GetReplicas()) == 0 {
			fmt.Fprintf(w, "%s: not compared: it has no replicas\n", what)
			bad++
		}
		if !g.GetMeta() {
			partitions++
		}
		for i, x := range g.GetReplicas() {
			replicas++
			if i == 0 {
				records, payloads = records+x.GetRecords(), payloads+x.GetPayloads()
			}
			if why := wrongWith(x); why != "" {
				fmt.Fprintf(w, "%s on %s, replica %d, at entry %d: %s\n", what, printable(x.GetNode()), x.GetReplica(), g.GetIndex(), why)
				bad++
			}
		}
	}
	if bad == 0 {
		fmt.Fprintf(w, "%d replicas of %d partitions and of the cluster's own state agree: %d records, %d payloads\n", replicas, partitions, records, payloads)
	}
	return bad == 0
}

func wrongWith(x *waystationv1.VerifiedReplica) string {
	switch {
	case x.GetDamaged():
		return "damaged, and rebuilt from the others if there are two of them: " + printable(x.GetError())
	case x.GetError() != "":
		return "not compared: " + printable(x.GetError())
	case x.GetDiffers():
		return fmt.Sprintf("differs from the others: checksum %016x over %d records, %d bytes", x.GetChecksum(), x.GetRecords(), x.GetBytes())
	}
	return ""
}
