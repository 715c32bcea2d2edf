package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/node/api"
)

// sendLimit is how long a packet is tried for: a script should get to know.
const sendLimit = 30 * time.Second

// ahead is how many packets are on their way while the first's receipt is awaited.
const ahead = 64

// sender sends packets in order and prints their receipts.
type sender struct {
	client *client.Client
	output string
	out    io.Writer
}

// item is one packet to be sent, and what it is called until it has a receipt.
type item struct {
	name string
	load func() (client.Packet, error)
}

// files are the packets of a command line: each has a file's content.
func files(packet client.Packet, in io.Reader, names []string) iter.Seq[item] {
	return func(yield func(item) bool) {
		for _, name := range names {
			load := func() (client.Packet, error) {
				content, err := readContent(in, name)
				p := packet
				p.Content = content
				return p, err
			}
			if !yield(item{name, load}) {
				return
			}
		}
	}
}

func runSend(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("send")
	addr := addrFlag(fs)
	o := sendFlags(fs)
	if err := parse(s, fs, args, "send --repo R [flags] [FILE…|-]"); err != nil {
		return helped(err)
	}
	packet, err := o.packet(fs)
	if err != nil {
		return err
	}
	names := fs.Args()
	if len(names) == 0 {
		names = []string{"-"}
	}
	if len(names) > 1 && packet.PacketID != "" {
		return usagef("send: --id names one packet, and there are %d files", len(names))
	}
	c, err := dial(ctx, s, *addr, client.WithRetry(retryWithin(sendLimit)))
	if err != nil {
		return err
	}
	defer c.Close()
	return (&sender{client: c, output: *output, out: s.Out}).run(ctx, files(packet, s.In, names))
}

func retryWithin(limit time.Duration) client.RetryPolicy {
	p := client.DefaultRetryPolicy()
	p.GiveUpAfter = limit
	return p
}

type sendOptions struct {
	repo, id, priority, kind, encoding string
	meta                               []string
	ttl, delay                         time.Duration
}

func sendFlags(fs *pflag.FlagSet) *sendOptions {
	o := &sendOptions{}
	fs.StringVar(&o.repo, "repo", "", "`repository` that the packets belong to (required)")
	fs.StringVar(&o.id, "id", "", "packet `id`: sent twice, it is accepted once")
	fs.StringVar(&o.priority, "priority", "normal", "`priority`: normal, high or low")
	fs.StringVar(&o.kind, "kind", "", "`kind` of packet, for metrics and routing")
	fs.StringArrayVar(&o.meta, "meta", nil, "metadata as `key=value`; may be given again")
	fs.StringVar(&o.encoding, "encoding", "identity", "how the content is compressed `already`: identity, gzip or zstd")
	fs.DurationVar(&o.ttl, "ttl", 0, "time to live: then it is a dead letter")
	fs.DurationVar(&o.delay, "deliver-after", 0, "not delivered before")
	return o
}

func (o *sendOptions) packet(fs *pflag.FlagSet) (client.Packet, error) {
	p := client.Packet{
		RepoID: o.repo, PacketID: o.id, Kind: o.kind, TimeToLive: o.ttl, DeliverAfter: o.delay, CreatedAt: time.Now(),
	}
	if !fs.Changed("repo") {
		return p, usagef("%s: --repo is required", fs.Name())
	}
	priority, ok := index(o.priority, "normal", "high", "low")
	if !ok {
		return p, usagef("%s: --priority %q: want normal, high or low", fs.Name(), o.priority)
	}
	encoding, ok := index(o.encoding, "identity", "gzip", "zstd")
	if !ok {
		return p, usagef("%s: --encoding %q: want identity, gzip or zstd", fs.Name(), o.encoding)
	}
	p.Priority, p.ContentEncoding = client.Priority(priority), client.ContentEncoding(encoding)
	for _, pair := range o.meta {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return p, usagef("%s: --meta %q: want key=value", fs.Name(), pair)
		}
		if p.Metadata == nil {
			p.Metadata = make(map[string]string)
		}
		p.Metadata[k] = v
	}
	return p, nil
}

func index(name string, names ...string) (uint8, bool) {
	for i, n := range names {
		if strings.EqualFold(n, name) {
			return uint8(i), true
		}
	}
	return 0, false
}

// answer is what became of one packet.
type answer struct {
	name    string
	receipt client.Receipt
	err     error
}

// run sends the packets in order, several on their way at a time, and prints their
// receipts in the same order. It stops at the first that is not accepted.
func (s *sender) run(ctx context.Context, items iter.Seq[item]) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan chan answer, ahead)
	go func() {
		defer close(queue)
		for it := range items {
			done := make(chan answer, 1)
			s.send(ctx, it, done)
			select {
			case queue <- done:
			case <-ctx.Done():
				return
			}
		}
	}()
	var failed error
	for done := range queue {
		select {
		case a := <-done:
			if failed == nil {
				failed = s.print(a)
			}
		case <-ctx.Done():
			failed = errors.Join(failed, ctx.Err())
		}
		if failed != nil {
			cancel()
		}
	}
	return failed
}

// send loads one packet and hands it to the client; done gets its answer.
func (s *sender) send(ctx context.Context, it item, done chan answer) {
	p, err := it.load()
	if err != nil {
		done <- answer{name: it.name, err: err}
		return
	}
	err = s.client.PublishAsync(ctx, &p, func(r client.Receipt, err error) { done <- answer{name: it.name, receipt: r, err: err} })
	if err != nil {
		done <- answer{name: it.name, err: err}
	}
}

// mostContent is what is read of a file: beyond the limit of any node, so that
// the node refuses what is too large, in its words.
const mostContent = 8<<20 + 1

func readContent(in io.Reader, file string) ([]byte, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read packet: %w", err)
		}
		defer f.Close()
		in = f
	}
	content, err := io.ReadAll(io.LimitReader(in, mostContent))
	if err != nil {
		return nil, fmt.Errorf("read packet %s: %w", file, err)
	}
	return content, nil
}

func (s *sender) print(a answer) error {
	if a.err != nil {
		return sendFailure(a)
	}
	r := a.receipt
	if s.output == "json" {
		return printJSON(s.out, api.ReceiptJSON{
			RepoID: r.RepoID, PacketID: r.PacketID, Sequence: r.Sequence, Duplicate: r.Duplicate, ContentDiffers: r.ContentDiffers,
		})
	}
	line := fmt.Sprintf("%s %d", printable(r.RepoID), r.Sequence)
	if r.PacketID != "" {
		line += " " + printable(r.PacketID)
	}
	if r.Duplicate {
		line += " duplicate"
	}
	if r.ContentDiffers {
		line += " (of other content)"
	}
	if _, err := fmt.Fprintln(s.out, line); err != nil {
		return fmt.Errorf("write receipt: %w", err)
	}
	return nil
}

func sendFailure(a answer) error {
	err := fmt.Errorf("send %s: %w", a.name, a.err)
	if code := client.ErrorCode(a.err); code == client.CodeUnavailable || code == client.CodeUnknown {
		return &unreachableError{err.Error()}
	}
	return err
}
