package actors

import (
	"context"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

// DeadQuery asks for a page of a group's dead letters.
type DeadQuery struct {
	Group  string
	Repo   string // empty: all
	Reason string // empty: all
	Limit  uint32 // at most 1,000; 0: 100
	Cursor string // of the page before; empty: the first
	// SinceMs and UntilMs bound when they were dead, in log time; 0: whenever.
	SinceMs, UntilMs int64
}

// DeadLetter is a packet that a group gave up.
type DeadLetter struct {
	repository.DeadLetter
	PacketID string
}

// DeadLetters returns a page of a group's dead letters, by partition, repository
// and number, and the cursor of the next one. A page ends before a partition that
// this node does not lead; the first one it must. It blocks for a quorum round.
func (d *DeliveryService) DeadLetters(ctx context.Context, q DeadQuery) (dead []DeadLetter, next string, err error) {
	if err := checkDead(&q); err != nil {
		return nil, "", err
	}
	g, err := d.known(q.Group)
	if err != nil {
		return nil, "", err
	}
	from, last, after, err := d.span(&q)
	if err != nil {
		return nil, "", err
	}
	room := deadBytes
	filter := q.filter()
	for at := from; at <= last; at, after = at+1, nil {
		page, cursor, err := d.deadIn(ctx, d.keepers[at].p, g.id, &q, &filter, after, int(q.Limit)-len(dead), &room)
		if at > from && errors.Is(err, refusedNotLeader) {
			return dead, strconv.Itoa(at) + ".", nil // what is led elsewhere is the next page
		}
		if err != nil {
			return nil, "", err
		}
		dead = append(dead, page...)
		switch {
		case cursor != nil:
			return dead, strconv.Itoa(at) + "." + hex.EncodeToString(cursor), nil
		case len(dead) >= int(q.Limit) && at < last:
			return dead, strconv.Itoa(at+1) + ".", nil
		}
	}
	return dead, "", nil
}

func (q *DeadQuery) filter() repository.DeadFilter {
	return repository.DeadFilter{
		Repo: bytesOf(q.Repo), Reason: repository.ReasonOf(q.Reason), SinceMs: max(q.SinceMs, 0), UntilMs: max(q.UntilMs, 0),
	}
}

func checkDead(q *DeadQuery) error {
	switch {
	case q.Limit > maxRead:
		return invalid("limit", "must be at most 1,000")
	case q.UntilMs != 0 && q.SinceMs > q.UntilMs:
		return invalid("since", "is after until")
	case q.Limit == 0:
		q.Limit = defaultRead
	}
	if q.Repo != "" {
		if err := checkRepo(q.Repo); err != nil {
			return err
		}
	}
	if q.Reason == "" {
		return nil
	}
	if repository.ReasonOf(q.Reason) == 0 {
		return invalid("reason", "must be attempts, expired, rejected, retention, poison or parked")
	}
	return nil
}

// span is the partitions that a query goes over, and where in the first it starts.
func (d *DeliveryService) span(q *DeadQuery) (from, last int, after []byte, err error) {
	last = len(d.keepers) - 1
	if q.Repo != "" {
		from = d.keeper(q.Repo).at
		last = from
	}
	if q.Cursor == "" {
		return from, last, nil, nil
	}
	partition, key, ok := strings.Cut(q.Cursor, ".")
	at, errAt := strconv.Atoi(partition)
	after, errKey := hex.DecodeString(key)
	if !ok || errAt != nil || errKey != nil || at < from || at > last {
		return 0, 0, nil, invalid("cursor", "is not one that this list returned")
	}
	return at, last, after, nil
}

// deadIn reads one partition's part of a page. It stops early when the reading of
// packets, for their ids, would take too many bytes.
func (d *DeliveryService) deadIn(ctx context.Context, p LanePartition, g repository.GroupID, q *DeadQuery, filter *repository.DeadFilter, after []byte, limit int, room *int) (dead []DeadLetter, next []byte, err error) {
	if err := barrier(ctx, p); err != nil {
		return nil, nil, err
	}
	for next = after; ; {
		var list []repository.DeadLetter
		err := p.View(func(m *repository.Machine) (err error) {
			list, next, err = m.DeadLetters(g, bytesOf(q.Repo), next, limit-len(dead))
			return err
		})
		if err != nil {
			return nil, nil, internal(err)
		}
		for i := range list {
			if !filter.Names(&list[i]) {
				continue
			}
			x := DeadLetter{DeadLetter: list[i]}
			if *room -= int(x.Ref.Length); *room > 0 {
				x.PacketID = d.packetID(p, &list[i])
			}
			dead = append(dead, x)
		}
		if next == nil || len(dead) >= limit {
			return dead, next, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
	}
}

// packetID is a dead letter's packet id; empty when it has none, or when its
// content can't be read, which the log then says.
func (d *DeliveryService) packetID(p LanePartition, x *repository.DeadLetter) string {
	b, err := payload(p, x.Ref)
	if err != nil {
		d.log.Error("read dead letter", "partition", p.ID(), "repository", x.Repo, "sequence", uint64(x.Seq), "error", err)
		return ""
	}
	var packet wire.Packet
	if b == nil || packet.Parse(b) != nil {
		return ""
	}
	return string(packet.ID)
}
