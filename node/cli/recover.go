package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/waystation/waystation/node/backup"
)

// runRecover has a cluster go on whose majority is gone for good. It needs no
// node, and none may run on the folders. Without --accept-loss it says what it
// would do, and that is a no.
func runRecover(_ context.Context, s Streams, args []string) error {
	fs, output := flags("recover")
	data := fs.String("data-dir", "", "the data `folder` of the node that goes on")
	with := fs.StringArray("with", nil, "the data `folder` of another node that is left; may be given again")
	empty := fs.UintSlice("empty-partition", nil, "a `partition` that begins anew, with nothing in it, because no copy of it can be read; may be given again")
	accept := fs.Bool("accept-loss", false, "do it: what only the lost nodes had is gone, and they may never come back")
	if err := parse(s, fs, args, "recover --data-dir DIR [--with DIR]… [--empty-partition N]… [--accept-loss] [flags]"); err != nil {
		return helped(err)
	}
	if fs.NArg() > 0 {
		return usagef("recover: unknown argument %q", fs.Arg(0))
	}
	if *data == "" {
		return usagef("recover: want --data-dir with the folder of the node that goes on")
	}
	do := backup.Survey
	if *accept {
		do = backup.Recover
	}
	logger := slog.New(slog.NewTextHandler(s.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	plan, err := do(append([]string{*data}, *with...), *empty, logger)
	if err != nil {
		return err
	}
	if *output == "json" {
		err = printJSON(s.Out, plan)
	} else {
		err = printPlan(s.Out, plan)
	}
	if err == nil && !plan.Done {
		err = errors.New("nothing was changed: give --accept-loss to do this")
	}
	return err
}

func printPlan(w io.Writer, p *backup.Plan) error {
	var gone []string
	for _, m := range p.GivenUp {
		gone = append(gone, m.Name)
	}
	if len(gone) == 0 {
		gone = []string{"nobody"}
	}
	err := table(w, func(w io.Writer) {
		fmt.Fprintf(w, "cluster\t%s (%s)\n", printable(p.Cluster), p.ClusterID)
		fmt.Fprintf(w, "goes on\t%s, on %s\n", printable(p.Node), printable(p.Folder))
		fmt.Fprintf(w, "given up for good\t%s\n", printable(strings.Join(gone, ", ")))
		fmt.Fprintf(w, "\nPARTITION\tCOPY OF\tAPPLIED\tCOMMITTED\tHELD\tLAST HEARD\tVOTERS\tMAY BE LOST\n")
		for _, g := range p.Groups {
			name, heard := fmt.Sprint(g.Partition), "-"
			if g.Meta {
				name = "cluster"
			}
			if g.LastHeard != nil {
				heard = g.LastHeard.Local().Format(time.DateTime)
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", name, printable(g.From), g.Applied, g.Committed, g.Last, heard,
				printable(strings.Join(g.Voters, " ")), printable(g.Lost))
			if g.Quarantined != "" {
				fmt.Fprintf(w, "\tquarantined: %s\n", printable(g.Quarantined))
			}
		}
	})
	if err != nil || !p.Done {
		return err
	}
	_, err = fmt.Fprintf(w, "\n%s is the only node of the cluster now: start it with --data-dir %s\nthe old databases are in %s: remove them once all is well\n",
		printable(p.Node), p.Folder, p.Before)
	return err
}
