package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// durableTimeout bounds how long the nodes may take to hold what they should;
// describeTimeout one question.
const (
	durableTimeout  = 120 * time.Second
	describeTimeout = 3 * time.Second
	durablePoll     = 10 * time.Millisecond
)

// description is what GET /v1/cluster tells, as far as it matters here.
type description struct {
	Nodes []struct {
		ID    string `json:"id"`
		Name  string `json:"name"`
		State string `json:"state"`
	} `json:"nodes"`
	Partitions []struct {
		ID            int    `json:"id"`
		Leader        string `json:"leader"`
		DurableCopies int    `json:"durable_copies"`
	} `json:"partitions"`
}

// copiesOf is on how many of n nodes a partition has its voters: an odd number.
func copiesOf(n, replication int) int { return min((n+1)/2*2-1, replication) }

// lacks says what a partition lacks, or nil. Under load some copy is nearly always
// a moment behind: whole are the partitions that had all their copies when they
// were looked at before, and it is enough to have been seen so once.
func (d *description) lacks(copies int, whole map[int]bool) (err error) {
	if len(d.Partitions) == 0 {
		return errors.New("no partition is known")
	}
	for _, p := range d.Partitions {
		switch {
		case p.Leader == "":
			err = fmt.Errorf("partition %d has no leader", p.ID)
		case p.DurableCopies >= copies:
			whole[p.ID] = true
		case !whole[p.ID]:
			err = fmt.Errorf("partition %d has %d durable copies of %d", p.ID, p.DurableCopies, copies)
		}
	}
	return err
}

func describe(ctx context.Context, address string) (*description, error) {
	ctx, cancel := context.WithTimeout(ctx, describeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/v1/cluster", http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("describe cluster: %w", err)
	}
	resp, err := httpClient().Do(req)
	if err != nil {
		return nil, fmt.Errorf("describe cluster: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("describe cluster: %s", resp.Status)
	}
	var d description
	if err := json.NewDecoder(resp.Body).Decode(&d); err != nil {
		return nil, fmt.Errorf("describe cluster: %w", err)
	}
	return &d, nil
}

// durable waits until every partition lies on as many nodes as it should.
func (f *Fleet) durable(ctx context.Context) error {
	copies := copiesOf(f.len(), f.cfg.Replication)
	ctx, cancel := context.WithTimeout(ctx, durableTimeout)
	defer cancel()
	poll := time.NewTicker(durablePoll)
	defer poll.Stop()
	whole := map[int]bool{}
	for {
		d, err := describe(ctx, f.first().spec.Addresses.HTTP)
		if err == nil {
			err = d.lacks(copies, whole)
		}
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case err := <-f.died:
			return err
		case <-ctx.Done():
			return fmt.Errorf("wait for %d durable copies of everything: %w: %w\n%s", copies, err, context.Cause(ctx), f.Tails())
		}
	}
}
