// Package mirror forwards the packets of one cluster to another, repository by
// repository, in order and under the same ids: what regions, and a move to a
// cluster with more partitions, are built of.
//
// A mirror is a worker of a consumer group of the source. The group's cursors say
// how far it is, so that it goes on where it was after any end of its own; what it
// had sent and not yet settled it sends again, and the target knows the ids.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"github.com/waystation/waystation/client"
)

// Route is the metadata that names the clusters which a packet came through, with
// commas between: two clusters that mirror each other do not send it round.
const Route = "waystation-route"

// Config is what a mirror works with.
type Config struct {
	// Source and Target are the clients of the two clusters; they stay the caller's.
	Source, Target *client.Client
	// SourceID and TargetID are the clusters' ids.
	SourceID, TargetID string
	// Group of the source, which must hold its lanes at a dead letter.
	Group string
	// Options are those of the source's worker.
	Options []client.WorkOption
	Logger  *slog.Logger
}

// Mirror is one Run's doings. It is safe for use from several goroutines.
type Mirror struct {
	cfg                                     Config
	forwarded, duplicates, skipped, refused atomic.Uint64
}

// Stats counts packets: those that the target took, those among them that it had
// already, those that came from it, and those that it refused for good.
type Stats struct {
	Forwarded  uint64 `json:"forwarded,string"`
	Duplicates uint64 `json:"duplicates,string"`
	Skipped    uint64 `json:"skipped,string"`
	Refused    uint64 `json:"refused,string"`
}

// New prepares a mirror. It fails when both clusters are one.
func New(cfg Config) (*Mirror, error) {
	if cfg.SourceID == cfg.TargetID {
		return nil, fmt.Errorf("mirror: source and target are the same cluster, %s", cfg.SourceID)
	}
	return &Mirror{cfg: cfg}, nil
}

// Run forwards until ctx ends, or as the options say. It blocks, and returns nil
// after a drain.
func (m *Mirror) Run(ctx context.Context) error {
	return m.cfg.Source.Work(ctx, m.cfg.Group, m.handle, m.cfg.Options...)
}

// Stats returns the counts so far.
func (m *Mirror) Stats() Stats {
	return Stats{m.forwarded.Load(), m.duplicates.Load(), m.skipped.Load(), m.refused.Load()}
}

var errExpired = errors.New("its time to live has passed")

// handle forwards one packet. While the target cannot be reached, or refuses for
// load, it waits: the lease is renewed meanwhile, and no attempt is spent.
func (m *Mirror) handle(ctx context.Context, d *client.Delivery) error {
	route := d.Metadata[Route]
	if through(route, m.cfg.TargetID) {
		m.skipped.Add(1)
		return nil
	}
	p, err := m.packet(d, route)
	if err != nil {
		return err
	}
	r, err := m.cfg.Target.Publish(ctx, p)
	switch {
	case err == nil:
	case client.ErrorCode(err) == client.CodeInvalidArgument:
		m.refused.Add(1)
		m.cfg.Logger.Error("the target refuses a packet for good: its lane waits until the dead letter is redriven or discarded",
			"repository", d.RepoID, "sequence", d.Sequence, "error", err)
		return client.Dead(err)
	default:
		return err
	}
	m.forwarded.Add(1)
	if r.Duplicate {
		m.duplicates.Add(1)
	}
	if r.ContentDiffers {
		m.cfg.Logger.Warn("the target has another content under this id, and keeps it",
			"repository", d.RepoID, "sequence", d.Sequence, "packet_id", p.PacketID)
	}
	return nil
}

// packet is what the target gets. A packet without an id has one made of where it
// comes from, the same each time.
func (m *Mirror) packet(d *client.Delivery, route string) (*client.Packet, error) {
	p := &client.Packet{
		RepoID: d.RepoID, Content: d.Content, PacketID: d.PacketID, Priority: d.Priority,
		ContentEncoding: d.ContentEncoding, Kind: d.Kind, CreatedAt: d.CreatedAt, Traceparent: d.Traceparent,
		Metadata: make(map[string]string, len(d.Metadata)+1),
	}
	maps.Copy(p.Metadata, d.Metadata)
	p.Metadata[Route] = m.cfg.SourceID
	if route != "" {
		p.Metadata[Route] = route + "," + m.cfg.SourceID
	}
	if p.PacketID == "" {
		p.PacketID = fmt.Sprintf("mirror/%s/%d", m.cfg.SourceID, d.Sequence)
	}
	if !d.ExpiresAt.IsZero() {
		if p.TimeToLive = time.Until(d.ExpiresAt); p.TimeToLive <= 0 {
			return nil, errExpired // it is the source's to bury, when it is asked for again
		}
	}
	return p, nil
}

func through(route, cluster string) bool {
	for id := range strings.SplitSeq(route, ",") {
		if id == cluster {
			return true
		}
	}
	return false
}
