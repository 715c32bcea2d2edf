package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

func (c *Calls) deadLetters(ctx context.Context, q *waystationv1.ListDeadLettersRequest) (*waystationv1.ListDeadLettersResponse, error) {
	list, next, err := c.delivery.DeadLetters(ctx, actors.DeadQuery{
		Group: q.GetGroup(), Repo: q.GetRepoId(), Reason: q.GetReason(), Limit: q.GetLimit(), Cursor: q.GetCursor(),
		SinceMs: stampMs(q.GetSince()), UntilMs: stampMs(q.GetUntil()),
	})
	if err != nil {
		return nil, err
	}
	out := &waystationv1.ListDeadLettersResponse{Cursor: next, Dead: make([]*waystationv1.DeadLetter, len(list))}
	for i := range list {
		x := &list[i]
		out.Dead[i] = &waystationv1.DeadLetter{
			RepoId: x.Repo, Sequence: uint64(x.Seq), PacketId: x.PacketID, Reason: x.Reason.String(),
			Attempts: x.Attempts, LastError: x.Error(), At: msStamp(x.AtMs), RedriveOf: uint64(x.RedriveOf),
			Failures: failures(x.Failures),
		}
	}
	return out, nil
}

func failures(list []repository.Failure) []*waystationv1.Failure {
	out := make([]*waystationv1.Failure, len(list))
	for i := range list {
		out[i] = &waystationv1.Failure{At: msStamp(list[i].AtMs), Error: list[i].Error, Silent: list[i].Silent}
	}
	return out
}

func (c *Calls) redriveDead(ctx context.Context, q *waystationv1.RedriveDeadLettersRequest) (*waystationv1.RedriveDeadLettersResponse, error) {
	o := deadOrder(repository.DeadRedrive, q)
	done, err := c.endDead(ctx, o, q.GetLimit(), q.GetRate())
	if err != nil {
		return nil, err
	}
	return &waystationv1.RedriveDeadLettersResponse{Redriven: uint64(done.Count), Looked: uint64(done.Looked), Cursor: done.Next}, nil
}

func (c *Calls) discardDead(ctx context.Context, q *waystationv1.DiscardDeadLettersRequest) (*waystationv1.DiscardDeadLettersResponse, error) {
	o := deadOrder(repository.DeadDiscard, q)
	done, err := c.endDead(ctx, o, q.GetLimit(), 0)
	if err != nil {
		return nil, err
	}
	return &waystationv1.DiscardDeadLettersResponse{Discarded: uint64(done.Count), Looked: uint64(done.Looked), Cursor: done.Next}, nil
}

// deadOrder is what both requests say. Without a time it ends with what is dead by
// now: what fails once more meanwhile is not done twice.
func deadOrder(action repository.DeadAction, q interface {
	GetGroup() string
	GetRepoId() string
	GetSequence() uint64
	GetReason() string
	GetCursor() string
	GetSince() *timestamppb.Timestamp
	GetUntil() *timestamppb.Timestamp
},
) actors.DeadOrder {
	o := actors.DeadOrder{
		Action: action, Seq: repository.Seq(q.GetSequence()),
		DeadQuery: actors.DeadQuery{
			Group: q.GetGroup(), Repo: q.GetRepoId(), Reason: q.GetReason(), Cursor: q.GetCursor(),
			SinceMs: stampMs(q.GetSince()), UntilMs: max(time.Now().UnixMilli(), stampMs(q.GetSince())),
		},
	}
	if q.GetUntil() != nil {
		o.UntilMs = stampMs(q.GetUntil())
	}
	return o
}

// deadPage is how many dead letters are looked at in one go, and how many goes a
// second a rate is spread over.
const (
	deadPage   = 1000
	deadRhythm = 10
)

// endDead does all that is ordered, or limit of it if that is not 0, and not more
// than rate a second if that is not 0. What an error ends half way is told of with a
// cursor, and whoever goes on there is told of the error.
func (c *Calls) endDead(ctx context.Context, o actors.DeadOrder, limit, rate uint32) (done actors.DeadDone, err error) {
	if err := c.open(); err != nil {
		return done, err
	}
	begun := time.Now()
	for {
		o.Limit = deadPage
		if rate > 0 {
			o.Limit = min(o.Limit, max(rate/deadRhythm, 1))
		}
		if limit > 0 {
			o.Limit = min(o.Limit, limit-uint32(done.Looked))
		}
		page, err := c.delivery.EndDead(ctx, o)
		done.Looked += page.Looked
		done.Count += page.Count
		if err != nil && done.Next != "" && ctx.Err() == nil {
			return done, nil
		}
		if err != nil {
			return done, err
		}
		done.Next, o.Cursor = page.Next, page.Next
		if page.Next == "" || limit > 0 && uint32(done.Looked) >= limit {
			return done, nil
		}
		if rate > 0 {
			if err := c.until(ctx, begun.Add(time.Duration(done.Count)*time.Second/time.Duration(rate))); err != nil {
				return done, err
			}
		}
	}
}

// until waits, unless the caller or the node goes.
func (c *Calls) until(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.health.Draining():
		return errDraining
	}
}
