package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/timestamppb"

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
	age := ageFlags(fs)
	if err := parse(s, fs, args, "dead list --group G [flags]"); err != nil {
		return helped(err)
	}
	if req.GetGroup() == "" || fs.NArg() > 0 {
		return usagef("dead list: --group is required, and there are no arguments")
	}
	req.Since, req.Until = age()
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

// ageFlags bound for how long dead letters have been dead; age is what was given, as
// times.
func ageFlags(fs *pflag.FlagSet) (age func() (since, until *timestamppb.Timestamp)) {
	older := fs.Duration("older-than", 0, "only those that have been dead for so `long`")
	newer := fs.Duration("newer-than", 0, "only those that were not dead so `long` ago")
	return func() (since, until *timestamppb.Timestamp) {
		now := time.Now()
		if *newer != 0 {
			since = timestamppb.New(now.Add(-*newer))
		}
		if *older != 0 {
			until = timestamppb.New(now.Add(-*older))
		}
		return since, until
	}
}

// deadFlags name the dead letters that something is to be done to.
func deadFlags(fs *pflag.FlagSet, req *waystationv1.RedriveDeadLettersRequest) (check func() error) {
	fs.StringVar(&req.Group, "group", "", "`group` whose dead letters they are (required)")
	fs.StringVar(&req.RepoId, "repo", "", "`repository`: only its")
	fs.Uint64Var(&req.Sequence, "sequence", 0, "`number` in --repo: only that one")
	fs.StringVar(&req.Reason, "reason", "", "`reason`: "+reasons)
	fs.Uint32Var(&req.Limit, "limit", 0, "look at so `many` at most; 0: at all")
	fs.StringVar(&req.Cursor, "cursor", "", "`cursor` that the call before ended with")
	all := fs.Bool("all", false, "all of the group: needed where neither --repo, --reason nor an age is given")
	age := ageFlags(fs)
	return func() error {
		req.Since, req.Until = age()
		return checkDead(fs, req, *all)
	}
}

func checkDead(fs *pflag.FlagSet, req *waystationv1.RedriveDeadLettersRequest, all bool) error {
	name := fs.Name()
	switch {
	case req.GetGroup() == "" || fs.NArg() > 0:
		return usagef("%s: --group is required, and there are no arguments", name)
	case req.GetSequence() != 0 && req.GetRepoId() == "":
		return usagef("%s: --sequence is one of a repository: name it with --repo", name)
	case req.GetRepoId() == "" && req.GetReason() == "" && req.GetSince() == nil && req.GetUntil() == nil && !all:
		return usagef("%s: name --repo, --reason, --older-than, --newer-than or --all", name)
	}
	return nil
}

func runDeadRedrive(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("dead redrive")
	addr := addrFlag(fs)
	req := &waystationv1.RedriveDeadLettersRequest{}
	check := deadFlags(fs, req)
	fs.Uint32Var(&req.Rate, "rate", 0, "at most so many a `second`; 0: as fast as it goes")
	if err := parse(s, fs, args, "dead redrive --group G [flags]"); err != nil {
		return helped(err)
	}
	if err := check(); err != nil {
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
	check := deadFlags(fs, req)
	if err := parse(s, fs, args, "dead discard --group G [flags]"); err != nil {
		return helped(err)
	}
	if err := check(); err != nil {
		return err
	}
	n, err := look(ctx, s, *addr)
	if err != nil {
		return err
	}
	defer n.close()
	answer, err := n.DiscardDeadLetters(ctx, &waystationv1.DiscardDeadLettersRequest{
		Group: req.GetGroup(), RepoId: req.GetRepoId(), Sequence: req.GetSequence(), Reason: req.GetReason(),
		Limit: req.GetLimit(), Cursor: req.GetCursor(), Since: req.GetSince(), Until: req.GetUntil(),
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
