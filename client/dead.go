package client

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// DeadLetter is a packet that a group did not get done.
type DeadLetter struct {
	RepoID   string
	PacketID string
	Sequence uint64
	// Reason is one of attempts, expired, rejected, retention, poison, parked.
	Reason    string
	Attempts  uint32
	LastError string
	At        time.Time
	// Failures are the last attempts, oldest first: at most 10.
	Failures []Failure
	// RedriveOf is the dead letter that it was before it was redriven; 0: none.
	RedriveOf uint64
}

// Failure is one attempt that failed.
type Failure struct {
	At    time.Time
	Error string
	// Silent: the lease ran out, and no worker said anything.
	Silent bool
}

// DeadLetterQuery names dead letters. Only Group is required.
type DeadLetterQuery struct {
	Group  string
	RepoID string
	// Sequence names one of RepoID; 0: all. DeadLetters does not look at it.
	Sequence uint64
	Reason   string
	// Since and Until bound when they were dead; zero: whenever.
	Since, Until time.Time
	// Limit is how many of them are listed, at most 1,000 (0: 100), or how many
	// RedriveDeadLetters and DiscardDeadLetters look at (0: all).
	Limit int
	// Cursor is what the call before returned.
	Cursor string
}

// DeadLetters returns one page of a group's dead letters, oldest sequence first,
// and the next page's cursor, which is empty at the end.
func (c *Client) DeadLetters(ctx context.Context, q DeadLetterQuery) ([]DeadLetter, string, error) {
	req := &waystationv1.ListDeadLettersRequest{
		Group: q.Group, RepoId: q.RepoID, Reason: q.Reason, Limit: clampU32(q.Limit), Cursor: q.Cursor,
		Since: stampOf(q.Since), Until: stampOf(q.Until),
	}
	var resp *waystationv1.ListDeadLettersResponse
	err := c.call(ctx, func(ctx context.Context, s waystationv1.WaystationClient) (err error) {
		resp, err = s.ListDeadLetters(ctx, req)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list dead letters of %s: %w", q.Group, err)
	}
	dead := make([]DeadLetter, len(resp.GetDead()))
	for i, d := range resp.GetDead() {
		dead[i] = DeadLetter{
			RepoID: d.GetRepoId(), PacketID: d.GetPacketId(), Sequence: d.GetSequence(), Reason: d.GetReason(),
			Attempts: d.GetAttempts(), LastError: d.GetLastError(), At: timeFrom(d.GetAt()), RedriveOf: d.GetRedriveOf(),
		}
		for _, f := range d.GetFailures() {
			dead[i].Failures = append(dead[i].Failures, Failure{At: timeFrom(f.GetAt()), Error: f.GetError(), Silent: f.GetSilent()})
		}
	}
	return dead, resp.GetCursor(), nil
}

// RedriveDeadLetters gives the dead letters that q names another life, in their
// order, at the ends of their lanes, and not more than perSecond of them a second
// (0: as fast as it goes). It blocks until all are done, or as many as q.Limit, and
// returns how many were, and the cursor to go on with where there are more. After an
// error it is not known how many were; the same call again does the rest.
func (c *Client) RedriveDeadLetters(ctx context.Context, q DeadLetterQuery, perSecond int) (redriven uint64, cursor string, err error) {
	req := &waystationv1.RedriveDeadLettersRequest{
		Group: q.Group, RepoId: q.RepoID, Sequence: q.Sequence, Reason: q.Reason, Limit: clampU32(q.Limit), Cursor: q.Cursor,
		Since: stampOf(q.Since), Until: stampOf(q.Until), Rate: clampU32(perSecond),
	}
	var resp *waystationv1.RedriveDeadLettersResponse
	err = c.call(ctx, func(ctx context.Context, s waystationv1.WaystationClient) (err error) {
		resp, err = s.RedriveDeadLetters(ctx, req)
		return err
	})
	if err != nil {
		return 0, "", fmt.Errorf("redrive dead letters of %s: %w", q.Group, err)
	}
	return resp.GetRedriven(), resp.GetCursor(), nil
}

// DiscardDeadLetters deletes the dead letters that q names; a lane that one of them
// holds goes on. What it returns is as with RedriveDeadLetters.
func (c *Client) DiscardDeadLetters(ctx context.Context, q DeadLetterQuery) (discarded uint64, cursor string, err error) {
	req := &waystationv1.DiscardDeadLettersRequest{
		Group: q.Group, RepoId: q.RepoID, Sequence: q.Sequence, Reason: q.Reason, Limit: clampU32(q.Limit), Cursor: q.Cursor,
		Since: stampOf(q.Since), Until: stampOf(q.Until),
	}
	var resp *waystationv1.DiscardDeadLettersResponse
	err = c.call(ctx, func(ctx context.Context, s waystationv1.WaystationClient) (err error) {
		resp, err = s.DiscardDeadLetters(ctx, req)
		return err
	})
	if err != nil {
		return 0, "", fmt.Errorf("discard dead letters of %s: %w", q.Group, err)
	}
	return resp.GetDiscarded(), resp.GetCursor(), nil
}

func stampOf(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
