package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/durationpb"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/api"
)

func groupCommands() []command {
	return []command{
		{name: "create", args: "GROUP", summary: "make a group, with the settings that are given", run: func(ctx context.Context, s Streams, args []string) error {
			return runGroupPut(ctx, s, args, true)
		}},
		{name: "set", args: "GROUP", summary: "change the settings that are given", run: func(ctx context.Context, s Streams, args []string) error {
			return runGroupPut(ctx, s, args, false)
		}},
		{name: "delete", args: "GROUP --yes", summary: "end a group, its dead letters and results, and what only it had still to settle", run: runGroupDelete},
		{name: "list", summary: "list the groups", run: runGroupList},
		{name: "show", args: "GROUP", summary: "show a group's settings", run: runGroupShow},
	}
}

// groupFlags define a group's settings; settings are those that were given.
func groupFlags(fs *pflag.FlagSet, makes bool) (settings func() (*waystationv1.GroupSettings, error)) {
	start := new(string)
	if makes {
		fs.StringVar(start, "start", "", "where it `begins`: earliest (the default) or latest")
	}
	attempts := fs.Uint32("max-attempts", 0, "a packet that failed so `often` is a dead letter")
	base := fs.Duration("backoff-base", 0, "`delay` after the first failure, doubled by each further one")
	most := fs.Duration("backoff-max", 0, "the longest `delay` after a failure")
	lease := fs.Duration("lease", 0, "how `long` a worker may hold a repository without renewing it")
	batch := fs.Uint32("max-batch", 0, "`packets` of one repository that a worker gets at once")
	policy := fs.String("order-policy", "", "what becomes of a lane after a dead letter: `skip`, block or park")
	keep := fs.Duration("result-ttl", 0, "how `long` what workers leave with a packet is kept")
	kinds := fs.StringToString("kind-result-ttl", nil, "`kind=duration`: for packets of a kind; 0s ends it. May be given again")
	return func() (*waystationv1.GroupSettings, error) {
		x := &waystationv1.GroupSettings{}
		given := map[string]func(){
			"start":        func() { x.Start = start },
			"max-attempts": func() { x.MaxAttempts = attempts },
			"backoff-base": func() { x.BackoffBase = durationpb.New(*base) },
			"backoff-max":  func() { x.BackoffMax = durationpb.New(*most) },
			"lease":        func() { x.Lease = durationpb.New(*lease) },
			"max-batch":    func() { x.MaxBatch = batch },
			"order-policy": func() { x.OrderPolicy = policy },
			"result-ttl":   func() { x.ResultTtl = durationpb.New(*keep) },
		}
		fs.Visit(func(f *pflag.Flag) {
			if set, ok := given[f.Name]; ok {
				set()
			}
		})
		for kind, text := range *kinds {
			d, err := time.ParseDuration(text)
			if err != nil {
				return nil, usagef("%s: --kind-result-ttl %s=%s: want a duration such as 90s or 1h30m", fs.Name(), kind, text)
			}
			if x.KindResultTtl == nil {
				x.KindResultTtl = map[string]*durationpb.Duration{}
			}
			x.KindResultTtl[kind] = durationpb.New(d)
		}
		return x, nil
	}
}

func runGroupPut(ctx context.Context, s Streams, args []string, makes bool) error {
	name := "group set"
	if makes {
		name = "group create"
	}
	fs, output := flags(name)
	addr := addrFlag(fs)
	settings := groupFlags(fs, makes)
	if err := parse(s, fs, args, name+" GROUP [flags]"); err != nil {
		return helped(err)
	}
	if fs.NArg() != 1 {
		return usagef("%s: want one group", name)
	}
	given, err := settings()
	if err != nil {
		return err
	}
	n, err := look(ctx, s, *addr)
	if err != nil {
		return err
	}
	defer n.close()
	var g *waystationv1.Group
	if makes {
		answer, fault := call(ctx, n, n.CreateGroup, &waystationv1.CreateGroupRequest{Name: fs.Arg(0), Settings: given})
		g, err = answer.GetGroup(), fault
	} else {
		answer, fault := call(ctx, n, n.UpdateGroup, &waystationv1.UpdateGroupRequest{Name: fs.Arg(0), Settings: given})
		g, err = answer.GetGroup(), fault
	}
	if err != nil {
		return err
	}
	return showGroup(s, *output, g)
}

func showGroup(s Streams, output string, g *waystationv1.Group) error {
	if output == "json" {
		return printJSON(s.Out, api.GroupJSON(g))
	}
	x := g.GetSettings()
	return table(s.Out, func(w io.Writer) {
		fmt.Fprintf(w, "group\t%s\n", printable(g.GetName()))
		fmt.Fprintf(w, "version\t%d\n", g.GetVersion())
		fmt.Fprintf(w, "start\t%s\n", x.GetStart())
		fmt.Fprintf(w, "max attempts\t%d\n", x.GetMaxAttempts())
		fmt.Fprintf(w, "back-off\t%v to %v\n", x.GetBackoffBase().AsDuration(), x.GetBackoffMax().AsDuration())
		fmt.Fprintf(w, "lease\t%v\n", x.GetLease().AsDuration())
		fmt.Fprintf(w, "max batch\t%d\n", x.GetMaxBatch())
		fmt.Fprintf(w, "order policy\t%s\n", x.GetOrderPolicy())
		fmt.Fprintf(w, "results kept\t%v\n", x.GetResultTtl().AsDuration())
		for _, kind := range slices.Sorted(maps.Keys(x.GetKindResultTtl())) {
			fmt.Fprintf(w, "  of kind %s\t%v\n", printable(kind), x.GetKindResultTtl()[kind].AsDuration())
		}
	})
}

func runGroupDelete(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("group delete")
	addr := addrFlag(fs)
	yes := fs.Bool("yes", false, "it is meant: what is deleted cannot be had back (required)")
	if err := parse(s, fs, args, "group delete GROUP --yes"); err != nil {
		return helped(err)
	}
	if fs.NArg() != 1 {
		return usagef("group delete: want one group")
	}
	if !*yes {
		return usagef("group delete: its dead letters, its results, and the packets that only it has still to settle are gone then, and its workers end: say --yes")
	}
	n, err := look(ctx, s, *addr)
	if err != nil {
		return err
	}
	defer n.close()
	if _, err := call(ctx, n, n.DeleteGroup, &waystationv1.DeleteGroupRequest{Name: fs.Arg(0)}); err != nil {
		return err
	}
	if *output == "json" {
		return printJSON(s.Out, struct {
			Deleted string `json:"deleted"`
		}{fs.Arg(0)})
	}
	fmt.Fprintf(s.Out, "deleted: %s\n", printable(fs.Arg(0)))
	return nil
}

func runGroupList(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("group list")
	addr := addrFlag(fs)
	if err := parse(s, fs, args, "group list [flags]"); err != nil {
		return helped(err)
	}
	if fs.NArg() > 0 {
		return usagef("group list: there are no arguments")
	}
	n, err := look(ctx, s, *addr)
	if err != nil {
		return err
	}
	defer n.close()
	answer, err := call(ctx, n, n.ListGroups, &waystationv1.ListGroupsRequest{})
	if err != nil {
		return err
	}
	if *output == "json" {
		return printJSON(s.Out, api.GroupsJSON(answer.GetGroups()))
	}
	return table(s.Out, func(w io.Writer) {
		fmt.Fprintf(w, "GROUP\tVERSION\tSTART\tMAX ATTEMPTS\tLEASE\tMAX BATCH\tORDER POLICY\n")
		for _, g := range answer.GetGroups() {
			x := g.GetSettings()
			fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%v\t%d\t%s\n", printable(g.GetName()), g.GetVersion(), x.GetStart(), x.GetMaxAttempts(),
				x.GetLease().AsDuration(), x.GetMaxBatch(), x.GetOrderPolicy())
		}
	})
}

func runGroupShow(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("group show")
	addr := addrFlag(fs)
	if err := parse(s, fs, args, "group show GROUP [flags]"); err != nil {
		return helped(err)
	}
	if fs.NArg() != 1 {
		return usagef("group show: want one group")
	}
	n, err := look(ctx, s, *addr)
	if err != nil {
		return err
	}
	defer n.close()
	answer, err := call(ctx, n, n.ListGroups, &waystationv1.ListGroupsRequest{})
	if err != nil {
		return err
	}
	for _, g := range answer.GetGroups() {
		if g.GetName() == fs.Arg(0) {
			return showGroup(s, *output, g)
		}
	}
	return fmt.Errorf("there is no group %q: see `group list`", fs.Arg(0))
}
