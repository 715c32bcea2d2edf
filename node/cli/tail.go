package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/api"
)

// pollEvery is how often tail -f looks for more.
const pollEvery = 500 * time.Millisecond

type tail struct {
	node   *node
	repo   string
	output string
	follow bool
	lines  uint64
	from   uint64
}

// runTail shows packets without taking a lease, as tail(1) shows lines.
func runTail(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("tail")
	addrFlag(fs)
	t := tail{}
	fs.Uint64VarP(&t.lines, "lines", "n", 10, "begin with the last `N` packets")
	fs.Uint64Var(&t.from, "from", 0, "begin with this `sequence` number instead")
	fs.BoolVarP(&t.follow, "follow", "f", false, "wait for more")
	n, repo, err := lookAt(ctx, s, fs, args, "tail R [flags]", "one repository, as in: tail acme/api")
	if err != nil {
		return helped(err)
	}
	defer n.close()
	t.node, t.repo, t.output = n, repo, *output
	return t.run(ctx, s.Out)
}

func (t *tail) run(ctx context.Context, out io.Writer) error {
	next, err := t.first(ctx)
	if err != nil {
		return err
	}
	for {
		page, err := t.page(ctx, next, 100)
		if err != nil {
			return err
		}
		if err := t.print(out, page); err != nil {
			return err
		}
		if n := len(page.GetPackets()); n > 0 {
			next = page.GetPackets()[n-1].GetSequence() + 1
			continue
		}
		switch {
		case t.follow:
		case page.GetHead() == 0:
			return fmt.Errorf("nothing was ever accepted for %q", t.repo)
		default:
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pollEvery):
		}
	}
}

func (t *tail) page(ctx context.Context, from uint64, limit uint32) (*waystationv1.ReadPacketsResponse, error) {
	return call(ctx, t.node, t.node.ReadPackets, &waystationv1.ReadPacketsRequest{RepoId: t.repo, From: from, Limit: limit})
}

// first is where to begin: numbers have no gaps, so that the head says it.
func (t *tail) first(ctx context.Context) (uint64, error) {
	if t.from > 0 {
		return t.from, nil
	}
	page, err := t.page(ctx, 0, 1)
	if err != nil {
		return 0, err
	}
	if head := page.GetHead(); head > t.lines {
		return head - t.lines + 1, nil
	}
	return 1, nil
}

func (t *tail) print(w io.Writer, page *waystationv1.ReadPacketsResponse) error {
	if t.output == "json" {
		for _, p := range api.ReadJSON(page).Packets {
			if err := printJSON(w, p); err != nil {
				return err
			}
		}
		return nil
	}
	for _, p := range page.GetPackets() {
		if _, err := fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%s\n", p.GetSequence(), p.GetAcceptedAt().AsTime().Local().Format(time.DateTime),
			p.GetPacket().GetPriority(), printable(p.GetPacket().GetPacketId()), len(p.GetPacket().GetContent()),
			preview(p.GetPacket().GetContent(), 60)); err != nil {
			return fmt.Errorf("write packet: %w", err)
		}
	}
	return nil
}
