package route

import (
	"context"
	"strconv"
	"strings"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// The bounds of a page of dead letters, as in actors.
const (
	defaultDead = 100
	maxDead     = 1000
)

// DeadLetters implements api.Reads.
func (x routedDelivery) DeadLetters(ctx context.Context, q actors.DeadQuery) (dead []actors.DeadLetter, next string, err error) {
	r := x.r
	if r.table.Load().here || q.Limit > maxDead {
		return r.delivery.DeadLetters(ctx, q) // which says what is wrong with it
	}
	next, err = r.deadPages(&q, func(p repository.PartitionID) (int, string, error) {
		page, cursor, err := r.deadAt(ctx, p, q)
		dead = append(dead, page...)
		return len(page), cursor, err
	})
	if err != nil {
		return nil, "", err
	}
	return dead, next, nil
}

// EndDead implements api.Delivery. After an error it is not known what was done.
func (x routedDelivery) EndDead(ctx context.Context, o actors.DeadOrder) (done actors.DeadDone, err error) {
	r := x.r
	if r.table.Load().here || o.Limit > maxDead || o.Seq != 0 && o.Repo == "" {
		return r.delivery.EndDead(ctx, o)
	}
	done.Next, err = r.deadPages(&o.DeadQuery, func(p repository.PartitionID) (int, string, error) {
		page, err := r.endDeadAt(ctx, p, o)
		done.Looked += page.Looked
		done.Count += page.Count
		return page.Looked, page.Next, err
	})
	return done, err
}

// deadPages goes through the partitions in order, whoever leads them: the cursor
// says in which one the next page begins. page asks for q.Limit, which is what is
// left, from q.Cursor on, and answers how many that came to.
func (r *Router) deadPages(q *actors.DeadQuery, page func(p repository.PartitionID) (n int, cursor string, err error)) (next string, err error) {
	if q.Limit == 0 {
		q.Limit = defaultDead
	}
	at, whole := 0, q.Repo == ""
	if !whole {
		at = int(r.partitionOf([]byte(q.Repo)))
	}
	if q.Cursor != "" {
		n, ok := r.partitionIn(q.Cursor)
		if !ok || !whole && n != at {
			return "", &actors.Refusal{Code: actors.CodeInvalidArgument, Field: "cursor", Message: "is not one that this list returned"}
		}
		at = n
	} else if whole {
		q.Cursor = "0."
	}
	for {
		n, cursor, err := page(repository.PartitionID(at))
		if err != nil {
			return "", err
		}
		q.Limit -= min(uint32(n), q.Limit)
		if cursor == "" || !whole || q.Limit == 0 {
			return cursor, nil
		}
		to, ok := r.partitionIn(cursor)
		if !ok || to < at || to == at && n == 0 {
			return cursor, nil // the node has its reason to stop here
		}
		at, q.Cursor = to, cursor
	}
}

// partitionIn is the partition that a cursor begins in.
func (r *Router) partitionIn(cursor string) (p int, ok bool) {
	number, _, _ := strings.Cut(cursor, ".")
	p, err := strconv.Atoi(number)
	return p, err == nil && p >= 0 && p < r.cfg.Partitions
}

func (r *Router) deadAt(ctx context.Context, p repository.PartitionID, q actors.DeadQuery) ([]actors.DeadLetter, string, error) {
	to, err := r.placeOf(p)
	if err != nil {
		return nil, "", err
	}
	if to.addr == "" {
		return r.delivery.DeadLetters(ctx, q)
	}
	var a waystationv1.ListDeadLettersResponse
	err = r.call(ctx, to, p, waystationv1.Waystation_ListDeadLetters_FullMethodName, &waystationv1.ListDeadLettersRequest{
		Group: q.Group, RepoId: q.Repo, Reason: q.Reason, Limit: q.Limit, Cursor: q.Cursor, Since: stampOf(q.SinceMs), Until: stampOf(q.UntilMs),
	}, &a)
	if err != nil {
		return nil, "", err
	}
	list := make([]actors.DeadLetter, len(a.GetDead()))
	for i, d := range a.GetDead() {
		x := &list[i]
		x.Repo, x.Seq, x.PacketID, x.RedriveOf = d.GetRepoId(), repository.Seq(d.GetSequence()), d.GetPacketId(), repository.Seq(d.GetRedriveOf())
		x.Reason, x.Attempts, x.AtMs = repository.ReasonOf(d.GetReason()), d.GetAttempts(), stampMs(d.GetAt())
		for _, f := range d.GetFailures() {
			x.Failures = append(x.Failures, repository.Failure{AtMs: stampMs(f.GetAt()), Silent: f.GetSilent(), Error: f.GetError()})
		}
	}
	return list, a.GetCursor(), nil
}

func (r *Router) endDeadAt(ctx context.Context, p repository.PartitionID, o actors.DeadOrder) (done actors.DeadDone, err error) {
	to, err := r.placeOf(p)
	if err != nil {
		return done, err
	}
	if to.addr == "" {
		return r.delivery.EndDead(ctx, o)
	}
	since, until := stampOf(o.SinceMs), stampOf(o.UntilMs)
	if o.Action == repository.DeadDiscard {
		var a waystationv1.DiscardDeadLettersResponse
		err = r.call(ctx, to, p, waystationv1.Waystation_DiscardDeadLetters_FullMethodName, &waystationv1.DiscardDeadLettersRequest{
			Group: o.Group, RepoId: o.Repo, Sequence: uint64(o.Seq), Reason: o.Reason, Limit: o.Limit, Cursor: o.Cursor, Since: since, Until: until,
		}, &a)
		return actors.DeadDone{Looked: int(a.GetLooked()), Count: int(a.GetDiscarded()), Next: a.GetCursor()}, err
	}
	var a waystationv1.RedriveDeadLettersResponse
	err = r.call(ctx, to, p, waystationv1.Waystation_RedriveDeadLetters_FullMethodName, &waystationv1.RedriveDeadLettersRequest{
		Group: o.Group, RepoId: o.Repo, Sequence: uint64(o.Seq), Reason: o.Reason, Limit: o.Limit, Cursor: o.Cursor, Since: since, Until: until,
	}, &a)
	return actors.DeadDone{Looked: int(a.GetLooked()), Count: int(a.GetRedriven()), Next: a.GetCursor()}, err
}
