package drive

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/verify"
)

// worker notes what workers are handed and what becomes of their settlements.
// It serves all sessions at the same time.
type worker struct {
	verifier *verify.Verifier
	names    *names
	clock    clock
	delivery *meter
	probe    *probe
	// first, if set, is told of each packet's first delivery; work is what a handler does
	// with a packet, and what becomes of it: nothing, and done, unless set.
	first func(repo int, due, took time.Duration)
	work  func(ctx context.Context, repo int, d *client.Delivery) error
	// failed, if set, says whether an accepted settlement was one of a packet that failed:
	// nothing is settled by it. It is asked once for each.
	failed func(repo int, number, token uint64) bool
	// foreign counts packets of others that the private group was handed too.
	foreign atomic.Int64
	// refused counts settlements that were not accepted, lastRefusal says why.
	refused     atomic.Int64
	lastRefusal atomic.Pointer[string]
}

// handle is the client.Handler: it looks, and is done.
func (w *worker) handle(ctx context.Context, d *client.Delivery) error {
	now := w.clock.now()
	what, repo, index := w.names.recognise(d.RepoID, d.Content, d.Metadata)
	switch what {
	case foreign:
		w.foreign.Add(1)
		return nil
	case broken:
		w.verifier.Corrupt(repo)
		return nil
	}
	seen := w.verifier.Deliver(repo, verify.Delivery{
		Index: index, Number: d.Sequence, Token: d.LeaseToken, Priority: uint8(d.Priority), At: verify.TickOf(now),
	})
	if seen.First {
		w.delivery.record(repo, now-seen.Took, seen.Took)
		if w.first != nil {
			w.first(repo, now-seen.Took, seen.Took)
		}
	}
	if seen.OldToken != 0 && w.probe.due(now) && w.probe.accepted(ctx, d, seen.OldToken) {
		w.verifier.StaleAccepted(repo)
	}
	if w.work != nil {
		return w.work(ctx, repo, d)
	}
	return nil
}

// settled is the client's hook for answers to settlements.
func (w *worker) settled(repoID string, number, token uint64, err error, at time.Time) {
	if err != nil {
		w.refused.Add(1)
		text := fmt.Sprintf("%s number %d: %v", repoID, number, err)
		w.lastRefusal.Store(&text)
		return
	}
	if repo, ok := w.names.index[repoID]; ok && (w.failed == nil || !w.failed(repo, number, token)) {
		w.verifier.Settle(repo, number, token, w.clock.at(at))
	}
}

// dead has the verifier know every dead letter of the group.
func (w *worker) dead(ctx context.Context, c *client.Client) error {
	q := client.DeadLetterQuery{Group: w.names.group, Limit: 1000}
	for {
		page, next, err := c.DeadLetters(ctx, q)
		if client.ErrorCode(err) == client.CodeNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		for _, d := range page {
			if repo, ok := w.names.index[d.RepoID]; ok && strings.HasPrefix(d.RepoID, w.names.prefix) {
				w.verifier.Dead(repo, d.Sequence)
			}
		}
		if next == "" {
			return nil
		}
		q.Cursor = next
	}
}
