package actors

import (
	"context"
	"encoding/hex"
	"errors"
	"strconv"

	"github.com/waystation/waystation/actors/repository"
)

// DeadOrder asks for something to be done to dead letters, in their order.
type DeadOrder struct {
	Action repository.DeadAction
	// DeadQuery names them; Limit is how many are looked at.
	DeadQuery
	Seq repository.Seq // only this one of Repo; 0: all
}

// DeadDone is what became of a DeadOrder.
type DeadDone struct {
	Looked int // at so many
	Count  int // of those that it was done to
	// Next is the cursor that goes on; empty at the end.
	Next string
}

// deadEntry is how many dead letters one command looks at.
const deadEntry = 256

// EndDead redrives or discards dead letters, by partition, repository and number.
// It ends before a partition that this node does not lead; the first one it must.
// After an error of the first partition it is not known what was done: the same
// order again does the rest.
func (d *DeliveryService) EndDead(ctx context.Context, o DeadOrder) (done DeadDone, err error) {
	if err := checkDead(&o.DeadQuery); err != nil {
		return done, err
	}
	if o.Seq != 0 && o.Repo == "" {
		return done, invalid("repo_id", "is missing: a sequence is one of a repository")
	}
	g, err := d.known(o.Group)
	if err != nil {
		return done, err
	}
	from, last, after, err := d.span(&o.DeadQuery)
	if err != nil {
		return done, err
	}
	for at := from; at <= last; {
		if done.Looked >= int(o.Limit) {
			done.Next = deadCursor(at, after)
			return done, nil
		}
		page, err := d.endDeadIn(ctx, d.keepers[at].p, g.id, &o, after, min(int(o.Limit)-done.Looked, deadEntry))
		switch {
		case err != nil && (at > from || done.Looked > 0):
			done.Next = deadCursor(at, after) // whoever goes on there is told
			return done, nil
		case err != nil:
			return done, err
		}
		done.Looked += page.Looked
		done.Count += page.Count
		if after = page.Next; after == nil {
			at++
		}
	}
	return done, nil
}

// deadCursor is where to go on: in a partition, behind a dead letter.
func deadCursor(at int, after []byte) string {
	return strconv.Itoa(at) + "." + hex.EncodeToString(after)
}

// endDeadIn is one command to one partition.
func (d *DeliveryService) endDeadIn(ctx context.Context, p LanePartition, g repository.GroupID, o *DeadOrder, after []byte, limit int) (repository.DeadOutcome, error) {
	f := o.filter()
	f.Group, f.Seq, f.After, f.Tag = g, o.Seq, after, d.deadTag.Add(1)
	type answer struct {
		out repository.DeadOutcome
		err error
	}
	done := make(chan answer, 1)
	p.Command(func(e *repository.EntryBuilder) { e.AddDead(o.Action, &f, uint32(limit)) }, func(res *repository.Results, err error) {
		a := answer{err: err}
		if err == nil {
			a.out, a.err = deadOutcome(res, f.Tag)
		}
		done <- a
	})
	select {
	case a := <-done:
		var refusal *Refusal
		if a.err != nil && !errors.As(a.err, &refusal) {
			a.err = asRefusal(a.err)
		}
		return a.out, a.err
	case <-ctx.Done():
		return repository.DeadOutcome{}, ctx.Err()
	}
}

func deadOutcome(res *repository.Results, tag uint64) (repository.DeadOutcome, error) {
	for i := range res.Dead {
		if x := res.Dead[i]; x.Tag == tag {
			if x.Code != repository.OK {
				return x, refusedLoading // the group has not come to this partition yet
			}
			return x, nil
		}
	}
	return repository.DeadOutcome{}, refusedNotLeader // proposed in another term
}
