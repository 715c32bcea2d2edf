package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/waystation/waystation/client"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/api"
)

// callWait is how long a call waits for its result, unless told otherwise.
const callWait = 30 * time.Second

func runCall(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("call")
	addr := addrFlag(fs)
	o := sendFlags(fs)
	group := fs.String("group", "", "`group` whose worker answers (required)")
	wait := fs.Duration("wait", callWait, "how `long` to wait for the result")
	if err := parse(s, fs, args, "call --repo R --group G [flags] [FILE|-]"); err != nil {
		return helped(err)
	}
	packet, err := o.packet(fs)
	if err != nil {
		return err
	}
	file := "-"
	switch {
	case *group == "":
		return usagef("call: --group is required")
	case fs.NArg() > 1:
		return usagef("call: want one file, or - for standard input")
	case fs.NArg() == 1:
		file = fs.Arg(0)
	}
	if packet.Content, err = readContent(s.In, file); err != nil {
		return err
	}
	c, err := dial(ctx, s, *addr)
	if err != nil {
		return err
	}
	defer c.Close()
	limited, cancel := context.WithTimeout(ctx, *wait)
	defer cancel()
	x, err := c.Call(limited, &packet, *group)
	var dead *client.DeadError
	switch {
	case errors.As(err, &dead):
		return showResult(s, *output, &dead.PacketResult)
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return fmt.Errorf("call: no result within %v: the packet runs if it was accepted; call again under the same --id", *wait)
	case err != nil:
		return callFailure(err)
	}
	return showResult(s, *output, x)
}

// callFailure tells who cannot be reached, and what is wrong with the packet, from an
// answer that is no.
func callFailure(err error) error {
	switch client.ErrorCode(err) {
	case client.CodeUnavailable, client.CodeUnknown:
		return &unreachableError{err.Error()}
	}
	return err
}

func runResult(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("result")
	addr := addrFlag(fs)
	group := fs.String("group", "", "`group` whose worker left it (required)")
	byID := fs.Bool("by-id", false, "the packet is named by its id, although that is a number")
	if err := parse(s, fs, args, "result R PACKET --group G [flags]"); err != nil {
		return helped(err)
	}
	if *group == "" || fs.NArg() != 2 {
		return usagef("result: want a repository, a packet's id or sequence, and --group")
	}
	c, err := dial(ctx, s, *addr)
	if err != nil {
		return err
	}
	defer c.Close()
	limited, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	seq, err := strconv.ParseUint(fs.Arg(1), 10, 64)
	var x *client.PacketResult
	if err != nil || seq == 0 || *byID {
		x, err = c.ResultID(limited, fs.Arg(0), fs.Arg(1), *group)
	} else {
		x, err = c.Result(limited, fs.Arg(0), seq, *group)
	}
	if err != nil {
		return callFailure(err)
	}
	return showResult(s, *output, x)
}

// showResult prints what a worker left as it is, and ends with exitNo where there is
// nothing of the kind.
func showResult(s Streams, output string, x *client.PacketResult) error {
	if output == "json" {
		if err := printJSON(s.Out, resultJSON(x)); err != nil {
			return err
		}
	}
	switch {
	case x.State == client.ResultDead && output != "json":
		return &client.DeadError{PacketResult: *x}
	case x.State == client.ResultPending && output != "json":
		return fmt.Errorf("packet %d of %s is not settled yet", x.Sequence, x.RepoID)
	case x.State != client.ResultDone:
		return errSilent
	case output == "json":
		return nil
	}
	if _, err := s.Out.Write(x.Value); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

func resultJSON(x *client.PacketResult) api.ResultJSON {
	p := &waystationv1.PacketResult{
		RepoId: x.RepoID, Sequence: x.Sequence, Group: x.Group, State: string(x.State), Reason: x.Reason, Attempts: x.Attempts, LastError: x.LastError,
	}
	if x.Kept {
		p.Result = append([]byte{}, x.Value...)
	}
	out := api.ResultAsJSON(p)
	out.PacketID = x.PacketID
	if !x.ExpiresAt.IsZero() {
		out.ExpiresAt = x.ExpiresAt.UTC().Format(time.RFC3339Nano)
	}
	return out
}
