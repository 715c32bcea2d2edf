package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/api"
)

const reasons = "attempts, expired, rejected, retention, poison or parked"

func deadCommands() []command {
	return []command{
		{name: "list", args: "--group G", summary: "list dead letters, with the errors of their attempts", run: runDeadList},
		{name: "redrive", args: "--group G", summary: "give them another life, at the end of their lanes", run: runDeadRedrive},
		{name: "export", args: "--group G [FILE|-]", summary: "write them, content and all, as lines of JSON", run: runDeadExport},
		{name: "import", args: "FILE|-", summary: "send the packets of such a file", run: runDeadImport},
		{name: "discard", args: "--group G", summary: "end them", run: runDeadDiscard},
	}
}

func runDeadList(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("dead list")
	addr := addrFlag(fs)
	req := &waystationv1.ListDeadLettersRequest{}
	fs.StringVar(&req.Group, "group", "", "`group` whose dead letters are listed (required)")
	fs.StringVar(&req.RepoId, "repo", "", "`repository`: only its")
	fs.StringVar(&req.Reason, "reason", "", "`reason`: "+reasons)
	fs.Uint32Var(&req.Limit, "limit", 100, "at most so `many`, up to 1000")
	fs.StringVar(&req.Cursor, "cursor", "", "`cursor` that the page before ended with")
	if err := parse(s, fs, args, "dead list --group G [flags]"); err != nil {
		return helped(err)
	}
	if req.GetGroup() == "" || fs.NArg() > 0 {
		return usagef("dead list: --group is required, and there are no arguments")
	}
	n, err := look(ctx, s, *addr)
	if err != nil {
		return err
	}
	defer n.close()
	answer, err := call(ctx, n, n.ListDeadLetters, req)
	if err != nil {
		return err
	}
	if *output == "json" {
		return printJSON(s.Out, api.DeadLettersJSON(answer))
	}
	return table(s.Out, func(w io.Writer) {
		fmt.Fprintf(w, "REPOSITORY\tSEQUENCE\tREASON\tATTEMPTS\tAT\tLAST ERROR\n")
		for _, d := range answer.GetDead() {
			fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\t%s\n", printable(d.GetRepoId()), d.GetSequence(), d.GetReason(), d.GetAttempts(),
				d.GetAt().AsTime().Local().Format(time.DateTime), preview([]byte(d.GetLastError()), 80))
		}
		if answer.GetCursor() != "" {
			fmt.Fprintf(w, "\nmore with --cursor %s\n", answer.GetCursor())
		}
	})
}

// deadFlags name the dead letters that something is to be done to.
func deadFlags(fs *pflag.FlagSet, req *waystationv1.RedriveDeadLettersRequest) (all *bool) {
	fs.StringVar(&req.Group, "group", "", "`group` whose dead letters they are (required)")
	fs.StringVar(&req.RepoId, "repo", "", "`repository`: only its")
	fs.Uint64Var(&req.Sequence, "sequence", 0, "`number` in --repo: only that one")
	fs.StringVar(&req.Reason, "reason", "", "`reason`: "+reasons)
	fs.Uint32Var(&req.Limit, "limit", 0, "look at so `many` at most; 0: at all")
	fs.StringVar(&req.Cursor, "cursor", "", "`cursor` that the call before ended with")
	return fs.Bool("all", false, "all of the group: needed where neither --repo nor --reason is given")
}

func checkDead(name string, fs *pflag.FlagSet, req *waystationv1.RedriveDeadLettersRequest, all bool) error {
	switch {
	case req.GetGroup() == "" || fs.NArg() > 0:
		return usagef("%s: --group is required, and there are no arguments", name)
	case req.GetSequence() != 0 && req.GetRepoId() == "":
		return usagef("%s: --sequence is one of a repository: name it with --repo", name)
	case req.GetRepoId() == "" && req.GetReason() == "" && !all:
		return usagef("%s: name --repo, --reason or --all", name)
	}
	return nil
}

func runDeadRedrive(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("dead redrive")
	addr := addrFlag(fs)
	req := &waystationv1.RedriveDeadLettersRequest{}
	all := deadFlags(fs, req)
	fs.Uint32Var(&req.Rate, "rate", 0, "at most so many a `second`; 0: as fast as it goes")
	if err := parse(s, fs, args, "dead redrive --group G [flags]"); err != nil {
		return helped(err)
	}
	if err := checkDead("dead redrive", fs, req, *all); err != nil {
		return err
	}
	n, err := look(ctx, s, *addr)
	if err != nil {
		return err
	}
	defer n.close()
	answer, err := n.RedriveDeadLetters(ctx, req) // at a rate it takes its time
	if err != nil {
		return explain(err, n.addr)
	}
	return deadDone(s, *output, "redriven", answer.GetRedriven(), answer.GetCursor(), api.RedrivenJSON(answer))
}

func runDeadDiscard(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("dead discard")
	addr := addrFlag(fs)
	req := &waystationv1.RedriveDeadLettersRequest{}
	all := deadFlags(fs, req)
	if err := parse(s, fs, args, "dead discard --group G [flags]"); err != nil {
		return helped(err)
	}
	if err := checkDead("dead discard", fs, req, *all); err != nil {
		return err
	}
	n, err := look(ctx, s, *addr)
	if err != nil {
		return err
	}
	defer n.close()
	answer, err := n.DiscardDeadLetters(ctx, &waystationv1.DiscardDeadLettersRequest{
		Group: req.GetGroup(), RepoId: req.GetRepoId(), Sequence: req.GetSequence(), Reason: req.GetReason(),
		Limit: req.GetLimit(), Cursor: req.GetCursor(),
	})
	if err != nil {
		return explain(err, n.addr)
	}
	return deadDone(s, *output, "discarded", answer.GetDiscarded(), answer.GetCursor(), api.DiscardedJSON(answer))
}

func deadDone(s Streams, output, what string, count uint64, cursor string, j api.DeadDoneJSON) error {
	if output == "json" {
		return printJSON(s.Out, j)
	}
	fmt.Fprintf(s.Out, "%s: %d\n", what, count)
	if cursor != "" {
		fmt.Fprintf(s.Out, "more with --cursor %s\n", cursor)
	}
	return nil
}
