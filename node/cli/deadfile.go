package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/waystation/waystation/client"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// deadLine is one dead letter in a file: the packet, and why it is dead. What an
// import needs is the packet alone.
type deadLine struct {
	RepoID          string            `json:"repo_id"`
	PacketID        string            `json:"packet_id,omitempty"`
	Content         []byte            `json:"content"`
	ContentEncoding string            `json:"content_encoding,omitempty"`
	Metadata        map[string]string `json:"metadata,omitempty"`
	Priority        string            `json:"priority,omitempty"`
	Kind            string            `json:"kind,omitempty"`
	CreatedAt       time.Time         `json:"created_at,omitzero"`
	Traceparent     string            `json:"traceparent,omitempty"`

	ClusterID string        `json:"cluster_id,omitempty"`
	Group     string        `json:"group,omitempty"`
	Sequence  uint64        `json:"sequence,string,omitempty"`
	Reason    string        `json:"reason,omitempty"`
	Attempts  uint32        `json:"attempts,omitempty"`
	At        time.Time     `json:"at,omitzero"`
	Failures  []failureLine `json:"failures,omitempty"`
}

type failureLine struct {
	At     time.Time `json:"at"`
	Error  string    `json:"error"`
	Silent bool      `json:"silent,omitempty"`
}

// mostLine bounds a line of such a file: the largest packet in base64, and the rest.
const mostLine = 16 << 20

func runDeadExport(ctx context.Context, s Streams, args []string) error {
	fs, _ := flags("dead export")
	addr := addrFlag(fs)
	req := &waystationv1.ListDeadLettersRequest{Limit: 1000}
	fs.StringVar(&req.Group, "group", "", "`group` whose dead letters are written (required)")
	fs.StringVar(&req.RepoId, "repo", "", "`repository`: only its")
	fs.StringVar(&req.Reason, "reason", "", "`reason`: "+reasons)
	age := ageFlags(fs)
	if err := parse(s, fs, args, "dead export --group G [flags] [FILE|-]"); err != nil {
		return helped(err)
	}
	if req.GetGroup() == "" || fs.NArg() > 1 {
		return usagef("dead export: --group is required, and there is one file at most")
	}
	req.Since, req.Until = age()
	c, err := dial(ctx, s, *addr)
	if err != nil {
		return err
	}
	defer c.Close()
	n, err := look(ctx, s, *addr)
	if err != nil {
		return err
	}
	defer n.close()
	about, err := c.Cluster(ctx)
	if err != nil {
		return err
	}
	x := deadExport{client: c, node: n, req: req, cluster: about.ClusterID}
	name := fs.Arg(0)
	if name == "" || name == "-" {
		err = x.write(ctx, s.Out)
	} else {
		err = newFile(name, func(w io.Writer) error { return x.write(ctx, w) })
	}
	if err != nil {
		return fmt.Errorf("dead export: %w", err)
	}
	fmt.Fprintf(s.Err, "exported: %d\n", x.written)
	if x.gone > 0 {
		return fmt.Errorf("dead export: the content of %d dead letters is no longer kept", x.gone)
	}
	return nil
}

// newFile has a file written that must not be there yet, and that is whole if it is
// there afterwards.
func newFile(name string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			err = errors.Join(err, os.Remove(name))
		}
	}()
	buffered := bufio.NewWriter(f)
	if err := write(buffered); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

// deadExport writes dead letters as lines of JSON.
type deadExport struct {
	client        *client.Client
	node          *node
	req           *waystationv1.ListDeadLettersRequest
	cluster       string
	written, gone int
}

func (x *deadExport) write(ctx context.Context, w io.Writer) error {
	for {
		page, err := call(ctx, x.node, x.node.ListDeadLetters, x.req)
		if err != nil {
			return err
		}
		for _, d := range page.GetDead() {
			if err := x.one(ctx, w, d); err != nil {
				return err
			}
		}
		if page.GetCursor() == "" {
			return nil
		}
		x.req.Cursor = page.GetCursor()
	}
}

func (x *deadExport) one(ctx context.Context, w io.Writer, d *waystationv1.DeadLetter) error {
	info, err := x.client.Lookup(ctx, d.GetRepoId(), d.GetSequence())
	if client.ErrorCode(err) == client.CodeNotFound || err == nil && info.Packet == nil {
		x.gone++
		return nil
	}
	if err != nil {
		return err
	}
	p := &info.Packet.Packet
	line := deadLine{
		RepoID: d.GetRepoId(), PacketID: p.PacketID, Content: p.Content, ContentEncoding: p.ContentEncoding.String(), Metadata: p.Metadata,
		Priority: p.Priority.String(), Kind: p.Kind, CreatedAt: p.CreatedAt, Traceparent: p.Traceparent,
		ClusterID: x.cluster, Group: x.req.GetGroup(), Sequence: d.GetSequence(), Reason: d.GetReason(),
		Attempts: d.GetAttempts(), At: d.GetAt().AsTime(),
	}
	for _, f := range d.GetFailures() {
		line.Failures = append(line.Failures, failureLine{f.GetAt().AsTime(), f.GetError(), f.GetSilent()})
	}
	x.written++
	return printJSON(w, line)
}

func runDeadImport(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("dead import")
	addr := addrFlag(fs)
	same := fs.Bool("same-ids", false, "send the packets under the ids that they had; else each has one made of where it was a dead letter, so that no id from before stands in its way and importing a file twice does nothing more")
	if err := parse(s, fs, args, "dead import [flags] FILE|-"); err != nil {
		return helped(err)
	}
	if fs.NArg() != 1 {
		return usagef("dead import: want one file, or - for standard input")
	}
	in := s.In
	if name := fs.Arg(0); name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("dead import: %w", err)
		}
		defer f.Close()
		in = f
	}
	c, err := dial(ctx, s, *addr, client.WithRetry(retryWithin(sendLimit)))
	if err != nil {
		return err
	}
	defer c.Close()
	return (&sender{client: c, output: *output, out: s.Out}).run(ctx, deadLines(in, *same))
}

// deadLines are the packets of a file of dead letters.
func deadLines(in io.Reader, sameIDs bool) iter.Seq[item] {
	return func(yield func(item) bool) {
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, mostLine)
		n := 0
		for lines.Scan() {
			n++
			p, err := deadPacket(lines.Bytes(), sameIDs)
			if !yield(item{fmt.Sprintf("line %d", n), func() (client.Packet, error) { return p, err }}) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(item{fmt.Sprintf("line %d", n+1), func() (client.Packet, error) { return client.Packet{}, err }})
		}
	}
}

func deadPacket(text []byte, sameID bool) (client.Packet, error) {
	var line deadLine
	if err := json.Unmarshal(text, &line); err != nil {
		return client.Packet{}, fmt.Errorf("is not a dead letter as `dead export` writes it: %w", err)
	}
	p := client.Packet{
		RepoID: line.RepoID, PacketID: line.PacketID, Content: line.Content, Metadata: line.Metadata, Kind: line.Kind,
		CreatedAt: line.CreatedAt, Traceparent: line.Traceparent,
	}
	if !sameID {
		if line.ClusterID == "" || line.Group == "" || line.Sequence == 0 {
			return p, errors.New("cluster_id, group and sequence must say where it was a dead letter; or use --same-ids")
		}
		p.PacketID = fmt.Sprintf("dead/%s/%s/%d", line.ClusterID, line.Group, line.Sequence)
	}
	for _, x := range []struct {
		field, value string
		into         *uint8
		names        []string
	}{
		{"priority", line.Priority, (*uint8)(&p.Priority), []string{"normal", "high", "low"}},
		{"content_encoding", line.ContentEncoding, (*uint8)(&p.ContentEncoding), []string{"identity", "gzip", "zstd"}},
	} {
		if x.value == "" {
			continue
		}
		i, ok := index(x.value, x.names...)
		if !ok {
			return p, fmt.Errorf("%s: %q: want one of %v", x.field, x.value, x.names)
		}
		*x.into = i
	}
	return p, nil
}
